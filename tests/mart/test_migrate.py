"""Migrations: once, in order, unedited; and a schema that explains itself."""

from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from conf.errors import StreamingError
from conf.segments import segment_scores
from mart.migrate import Migration, migrate, migrations
from mart.reject_reason import MEANING
from tests.integration.mart_rows import rows


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
    with pytest.raises(StreamingError, match="0001_mart was edited after it was applied"):
        migrate(owner, [replace(first, text=first.text + " "), *rest])
    with pytest.raises(StreamingError, match="update the code"):
        migrate(owner, [])


@pytest.mark.stack
def test_failing_migration_leaves_nothing(owner, fresh_mart):
    number = len(migrations()) + 1
    broken = Migration(number, f"{number:04}_broken", "CREATE TABLE mart.half (x int); SELECT 1/0")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(owner, [*migrations(), broken])
    assert rows(fresh_mart.owner_dsn, "SELECT to_regclass('mart.half')") == [(None,)]
    assert migrate(owner) == []


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
        WHERE c.relnamespace = 'mart'::regnamespace AND c.relkind IN ('r', 'p') AND d.description IS NULL
        UNION ALL
        SELECT c.relname, NULL FROM pg_class c
        WHERE c.relnamespace = 'mart'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND obj_description(c.oid, 'pg_class') IS NULL
        """,
    )
    assert undocumented == []
