"""What PostgreSQL's failures mean: real ones, made on a real server, and those that cannot be made, by their code."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import errors

from conf.postgres import Refusal, in_words, is_pooled, refusal

PASSES = "08006 08P01 25006 25P03 25P04 40001 40P01 53100 53200 53300 55P03 55006 57014 57P01 57P02 57P03 57P05 58030"
FOR_GOOD = "28000 28P01 3D000 42501 57P04"
FAULT = "22003 22008 22012 23505 23514 42601 42P01 42883 0A000 25001 25P02 2201X XX000"


class WithCode(psycopg2.OperationalError):
    """An error as psycopg2 raises it, with a code that no test can make a server say."""

    def __init__(self, code: str) -> None:
        super().__init__("in words")
        self.code = code

    pgcode = property(lambda self: self.code)


@pytest.mark.parametrize(
    ("codes", "expected"), [(PASSES, Refusal.PASSES), (FOR_GOOD, Refusal.FOR_GOOD), (FAULT, Refusal.FAULT)]
)
def test_each_code_has_its_kind(codes, expected):
    assert {code: refusal(WithCode(code)) for code in codes.split()} == dict.fromkeys(codes.split(), expected)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('FATAL:  password authentication failed for user "mart"', Refusal.FOR_GOOD),
        ('FATAL:  role "mart" does not exist', Refusal.FOR_GOOD),
        ("FATAL:  no pg_hba.conf entry for host", Refusal.FOR_GOOD),
        ("FATAL:  no such database: mart", Refusal.FOR_GOOD),  # PgBouncer's words
        ("FATAL:  unsupported startup parameter: options", Refusal.FOR_GOOD),
        ("server does not support SSL, but SSL was required", Refusal.FOR_GOOD),
        ('definition of service "none" not found', Refusal.FOR_GOOD),
        ("FATAL:  sorry, too many clients already", Refusal.PASSES),
        ("FATAL:  the database system is starting up", Refusal.PASSES),
        ("FATAL:  pgbouncer cannot connect to server", Refusal.PASSES),
        ("server closed the connection unexpectedly", Refusal.PASSES),
        ('could not translate host name "db" to address: Temporary failure in name resolution', Refusal.PASSES),
    ],
)
def test_a_failed_login_by_its_words(message, expected):
    assert refusal(psycopg2.OperationalError(message)) is expected


def test_what_has_no_code():
    assert refusal(psycopg2.InterfaceError("connection already closed")) is Refusal.PASSES
    assert refusal(psycopg2.DatabaseError("error with status PGRES_TUPLES_OK")) is Refusal.PASSES
    assert refusal(psycopg2.ProgrammingError("no results to fetch")) is Refusal.FAULT


@pytest.mark.stack
def test_real_ones(fresh_mart):
    def failing(*statements: str) -> psycopg2.Error:
        with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection.cursor() as cursor:
            for statement in statements[:-1]:
                cursor.execute(statement)
            with pytest.raises(psycopg2.Error) as raised:
                cursor.execute(statements[-1])
            return raised.value

    read_only = failing("SET TRANSACTION READ ONLY", "CREATE TABLE public.t (n integer)")
    assert isinstance(read_only, errors.ReadOnlySqlTransaction)  # to psycopg2 an InternalError, no OperationalError
    assert refusal(read_only) is Refusal.PASSES
    assert in_words(read_only).startswith("PostgreSQL is read-only")
    assert refusal(failing("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(60)")) is Refusal.PASSES
    assert refusal(failing("SELECT pg_terminate_backend(pg_backend_pid())")) is Refusal.PASSES
    assert refusal(failing("SELECT 1 / 0")) is Refusal.FAULT
    assert refusal(failing("SELECT passwd FROM pg_shadow")) is Refusal.FOR_GOOD
    parts = urlsplit(fresh_mart.owner_dsn)
    for wrong in (
        parts._replace(path="/nowhere"),
        parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":wrong@")),
    ):
        with pytest.raises(psycopg2.OperationalError) as raised:
            psycopg2.connect(urlunsplit(wrong))
        assert refusal(raised.value) is Refusal.FOR_GOOD


@pytest.mark.stack
def test_how_a_session_was_ended_is_said(fresh_mart):
    """The end of the `with` block rolls back what is closed by then, and says no more than that."""

    def ended() -> None:
        with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(psycopg2.InterfaceError) as raised:
        ended()
    assert refusal(raised.value) is Refusal.PASSES
    assert "server closed the connection" in in_words(raised.value)


@pytest.mark.stack
def test_a_service_that_no_file_names_is_for_good():
    with pytest.raises(psycopg2.Error) as raised:
        psycopg2.connect("service=none")
    assert refusal(raised.value) is Refusal.FOR_GOOD


@pytest.mark.stack
def test_nothing_stands_between(fresh_mart):
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection.cursor() as cursor:
        assert not is_pooled(cursor)
