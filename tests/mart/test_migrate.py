"""Migrations: once, in order, unedited; and a schema that explains itself."""

import gzip
import json
import re
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from conf.errors import StreamingError
from conf.segments import segment_scores
from mart.migrate import Migration, migrate, migrations
from mart.reject_reason import MEANING
from operations.backup import _tool
from tests.builders.mart_rows import rows
from tests.builders.pipeline import new_mart


@pytest.fixture
def owner(fresh_mart):
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection:
        yield connection


@pytest.mark.stack
def test_applied_once(owner, fresh_mart):
    assert migrate(owner) == [m.name for m in migrations()]
    assert migrate(owner) == []
    assert rows(fresh_mart.owner_dsn, "SELECT number, name, checksum FROM public.migration ORDER BY 1") == [
        (m.number, m.name, m.checksum) for m in migrations()
    ]
    assert set(rows(fresh_mart.owner_dsn, "SELECT * FROM mart.segment_score")) == set(segment_scores())
    assert dict(rows(fresh_mart.owner_dsn, "SELECT * FROM mart.reject_reason")) == dict(MEANING)


@pytest.mark.stack
def test_edited_or_unknown_migration_is_refused(owner):
    migrate(owner)
    first, *rest = migrations()
    with pytest.raises(StreamingError, match="0011_mart was edited after it was applied"):
        migrate(owner, [replace(first, text=first.text + " "), *rest])
    number = first.number + len(rest) + 1
    migrate(owner, [first, *rest, Migration(number, f"{number:04}_newer", "SELECT 1")])
    with pytest.raises(StreamingError, match=f"at migration {number}, this code knows {number - 1}: update the code"):
        migrate(owner)


@pytest.mark.stack
def test_failing_migration_leaves_nothing(owner, fresh_mart):
    number = migrations()[-1].number + 1
    broken = Migration(number, f"{number:04}_broken", "CREATE TABLE mart.half (x int); SELECT 1/0")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(owner, [*migrations(), broken])
    assert rows(fresh_mart.owner_dsn, "SELECT to_regclass('mart.half')") == [(None,)]
    assert migrate(owner) == []


def of_0_1_0() -> list[Migration]:
    """The eleven migrations of 0.1.0, before they were squashed."""
    listed = json.loads(gzip.decompress((Path(__file__).parent / "migrations_0_1_0.json.gz").read_bytes()))
    return [Migration(*one) for one in listed]


def catalog(dsn: str, connection) -> list[str]:
    """All that PostgreSQL knows of the mart: tables, their columns in order, constraints, indexes, functions, triggers,
    views, comments and rights, each with its text, in an order that does not depend on that of their making."""
    command = [_tool("pg_dump", connection), "--schema-only", "--schema=mart", dsn]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    texts = re.sub(r"(?m)^(--.*|\\(un)?restrict .*)\n", "", dump).split("\n\n")
    return sorted(text.strip() for text in texts if text.strip())


@pytest.mark.stack
def test_a_mart_of_0_1_0_goes_on_and_is_what_a_new_one_is(servers, owner, fresh_mart):
    old = of_0_1_0()
    assert migrate(owner, old) == [m.name for m in old]
    with owner, owner.cursor() as cursor:
        cursor.execute("INSERT INTO mart.pruned_invoice VALUES ('i1')")
    assert migrate(owner) == [m.name for m in migrations() if m.number > old[-1].number]
    assert rows(fresh_mart.owner_dsn, "SELECT * FROM mart.pruned_invoice") == [("i1",)]
    assert migrate(owner) == []
    with new_mart(servers) as new, closing(psycopg2.connect(new.owner_dsn)) as its_owner:
        migrate(its_owner)
        made = catalog(new.owner_dsn, its_owner)
        assert catalog(fresh_mart.owner_dsn, owner) == made
        same = "SELECT * FROM mart.stream_total, mart.pruned_total"
        assert rows(fresh_mart.owner_dsn, same) == rows(new.owner_dsn, same)
        assert len(made) > 300
        assert "CREATE FUNCTION mart.move_cuts()" in "".join(made)


@pytest.mark.stack
def test_a_mart_from_before_0_1_0_is_told_what_to_do(owner, fresh_mart):
    migrate(owner, of_0_1_0())
    with owner, owner.cursor() as cursor:
        cursor.execute("DELETE FROM public.migration WHERE number > 4")
    with pytest.raises(StreamingError, match=r"at migration 4 .* first run `retail-mart migrate` of version 0\.1\.0"):
        migrate(owner)
    assert rows(fresh_mart.owner_dsn, "SELECT max(number) FROM public.migration") == [(4,)]


@pytest.mark.stack
def test_the_last_migration_of_0_1_0_must_be_as_it_was(owner):
    migrate(owner, of_0_1_0())
    with owner, owner.cursor() as cursor:
        cursor.execute("UPDATE public.migration SET checksum = repeat('0', 64) WHERE number = 11")
    with pytest.raises(StreamingError, match="was edited after it was applied"):
        migrate(owner)


def test_numbers_and_names_are_checked(tmp_path):
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "0003_b.sql").write_text("SELECT 1")
    with pytest.raises(StreamingError, match=r"\[1, 3\], expected 1 to 2"):
        migrations(tmp_path)
    (tmp_path / "0003_b.sql").rename(tmp_path / "two.sql")
    with pytest.raises(StreamingError, match="named like 0001_mart"):
        migrations(tmp_path)


@pytest.mark.stack
def test_every_table_and_column_has_a_comment(owner, fresh_mart):
    migrate(owner)
    undocumented = rows(
        fresh_mart.owner_dsn,
        """
        SELECT c.relname, a.attname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped
        LEFT JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = a.attnum
        WHERE c.relnamespace = 'mart'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND d.description IS NULL
        UNION ALL
        SELECT c.relname, NULL FROM pg_class c
        WHERE c.relnamespace = 'mart'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND obj_description(c.oid, 'pg_class') IS NULL
        """,
    )
    assert undocumented == []
