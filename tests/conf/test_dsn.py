"""A DSN is refused, without a word of it, where PostgreSQL's library would look for a host that is half a password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn, parse_dsn

from conf.dsn import fault

passwords = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=30)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@h/d",
        "postgres://u:p@h:5432/d?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem",
        "postgresql://u:p@db-1.shop_x.example:5432/d",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://u:p@[fe80::1%25eth0]/d",
        "postgresql://u:p@h1:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun/d",
        "postgresql://u:p:q@h/d",  # libpq takes these three as they are meant
        "postgresql://u:p#q@h/d",
        "postgresql://u:p?q@h/d",
        "postgresql://u:p@müller.example/d",
        "host=h port=5432 user=u password=p@q/r%s dbname=d",
        r"host=h user=u password='p q\'r\\s' dbname=d",
        "host=/tmp dbname=d",
        "host=@abstract dbname=d",
        "service=mart",
    ],
)
def test_a_sound_one_is_taken(dsn):
    assert fault(dsn) is None


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("postgresql://u:ab%zzcd@h/d", "% as %25"),
        ("postgresql://u:ab%@h/d", "% as %25"),
        ("postgresql://u:ab@cd@h/d", "host cannot be one"),
        ("postgresql://u:@abcd@h/d", "host cannot be one"),
        ("postgresql://u:ab/cd@h/d", "port cannot be one"),
        ("postgresql://u:12/cd@h/d", "database cannot be one"),
        ("postgresql://u:/abcd@h/d", "database cannot be one"),
        ("postgresql://u:ab/cd?ef@h/d", "cannot read it"),
        ("postgresql://u:p@h/d/abcd", "database cannot be one"),
        ("host=h password=ab cd dbname=d", "quote or backslash"),
        ("host='ab@cd' dbname=d", "host cannot be one"),
        ("host=h dbname=postgresql://u:ab@cd@h/d", "database cannot be one"),
        ("jdbc:postgresql://h/d?user=u&password=abcd", "begin it with postgresql://"),
        (" ", "it names no server"),
        ("postgresql://", "it names no server"),
        ("abcd", "postgresql://name:password@host:port/database"),
    ],
)
def test_one_that_a_password_has_broken_is_refused_with_the_fix_and_not_shown(dsn, says):
    wrong = fault(dsn)
    assert wrong is not None
    assert says in wrong
    for piece in ("abcd", "cd", "ef"):
        assert f"{piece}@" not in wrong
        assert f" {piece} " not in wrong


@given(passwords)
def test_an_encoded_password_is_never_refused_and_an_unencoded_one_never_becomes_a_host(password):
    assert fault(f"postgresql://u:{quote(password, safe='')}@h:5432/d?sslmode=require") is None
    assert fault(make_dsn(host="h", password=password, dbname="d")) is None
    raw = f"postgresql://u:{password}@h:5432/d"
    if fault(raw) is None:
        parts = parse_dsn(raw)
        assert (parts["host"], parts["port"], parts["dbname"]) == ("h", "5432", "d")
