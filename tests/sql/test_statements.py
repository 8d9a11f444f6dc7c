"""The SQL files: each is used, and the mart is documented and guarded as promised."""

from __future__ import annotations

import re
from contextlib import closing

import psycopg2
import pytest

from mart.migrate import migrate
from sql import FOLDER, line_condition, literals, statement
from tests.integration.mart_rows import rows

ROOT = FOLDER.parent


def test_every_statement_is_used():
    """By its name, or by one that is put together: statement(f"rules/{name}"), statement(f"verify/copy_{name}")."""
    sources = [path.read_text() for path in ROOT.glob("[!.]*/**/*.py") if "tests" not in path.parts]
    whole = {name for text in sources for name in re.findall(r'"([a-z]+/[a-z_]+)"', text)}
    last = {name for text in sources for name in re.findall(r'"([a-z_]+)"', text)}
    begun = {name for text in sources for name in re.findall(r'statement\(f["\'](\w+/\w*)\{', text)}
    for path in FOLDER.glob("[!m]*/*.sql"):
        folder, name = path.parent.name, path.stem
        put_together = any(
            f"{folder}/{name}".startswith(start) and f"{folder}/{name}".removeprefix(start) in last for start in begun
        )
        assert f"{folder}/{name}" in whole or put_together, f"no code runs {path}"


def test_literals_are_quoted_for_spark():
    assert literals(["A'B", "C\\D"]) == r"'A\'B', 'C\\D'"
    assert "'ONGKIR'" in line_condition("counting_line", ["ONGKIR"])


def test_unknown_statement_is_an_error():
    with pytest.raises(FileNotFoundError):
        statement("apply/none_such")


@pytest.mark.stack
class TestMigratedMart:
    """What holds of every table and view, whatever migration brought it."""

    @pytest.fixture
    def mart(self, fresh_mart):
        with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection:
            migrate(connection)
        return fresh_mart

    def test_every_table_and_column_has_a_comment(self, mart):
        bare = rows(
            mart.owner_dsn,
            """SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped
               WHERE n.nspname = 'mart' AND c.relkind IN ('r', 'p')
                 AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)""",
        )
        assert bare == []
        bare_views = rows(
            mart.owner_dsn,
            """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'mart' AND c.relkind IN ('v', 'm') AND obj_description(c.oid) IS NULL""",
        )
        assert bare_views == []

    def test_reader_reads_views_and_nothing_else(self, mart):
        relations = rows(
            mart.owner_dsn,
            """SELECT c.oid::regclass::text, c.relkind::text FROM pg_class c JOIN pg_namespace n
               ON n.oid = c.relnamespace WHERE n.nspname = 'mart' AND c.relkind IN ('r', 'p', 'v', 'm')""",
        )
        assert {kind for _, kind in relations} >= {"r", "v"}
        with closing(psycopg2.connect(mart.reader_dsn)) as connection:
            connection.autocommit = True
            for name, kind in relations:
                with connection.cursor() as cursor:
                    if kind in "vm":
                        cursor.execute(f"SELECT * FROM {name} LIMIT 0")
                    else:
                        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                            cursor.execute(f"SELECT * FROM {name} LIMIT 0")

    @pytest.mark.parametrize("role", ["reader", "writer"])
    @pytest.mark.parametrize(
        "what", ["DROP TABLE mart.customer", "CREATE TABLE mart.mine (n int)", "TRUNCATE mart.batch"]
    )
    def test_no_job_may_change_the_schema(self, mart, role, what):
        dsn = {"reader": mart.reader_dsn, "writer": mart.writer_dsn}[role]
        with (
            closing(psycopg2.connect(dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(what)

    def test_numbers_that_are_not_finite_are_refused(self, mart):
        customer = "(customer_id, last_purchase, frequency, monetary) VALUES ('c', '2026-01-01', 1, 'NaN')"
        with (
            closing(psycopg2.connect(mart.owner_dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.CheckViolation),
        ):
            cursor.execute(f"INSERT INTO mart.customer {customer}")


def test_sql_stays_in_sql():
    """Python holds no SQL text longer than a line."""
    long_sql = re.compile(r'"""[^"]*\b(SELECT|INSERT|UPDATE|DELETE)\b[^"]*\n[^"]*\b(FROM|INTO|SET)\b')
    for source in ROOT.glob("[!.]*/**/*.py"):
        if "tests" not in source.parts and ".venv" not in str(source):
            assert not long_sql.search(source.read_text()), source
