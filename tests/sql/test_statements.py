"""The SQL files: each is used, and the mart is documented and guarded as promised."""

from __future__ import annotations

import ast
import re
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from mart.migrate import migrate
from sql import FOLDER, line_condition, literals, modules, statement, statements
from tests.builders.mart_rows import rows

ROOT = FOLDER.parent


ALL = [(module, name) for module in modules() for name in statements(module)]


def sources() -> list[Path]:
    """The project's own Python, without its tests."""
    found = [path for path in ROOT.glob("[!.]*/**/*.py") if path.relative_to(ROOT).parts[0] != "tests"]
    assert len(found) > 100
    return found


def arguments(tree: ast.AST) -> set[str]:
    """The texts that are given to a call: as they are, by a name in it, or in a tuple that is gone through."""
    given = [one for node in ast.walk(tree) if isinstance(node, ast.Call) for one in (*node.args, *node.keywords)]
    given += [node for node in ast.walk(tree) if isinstance(node, ast.Tuple | ast.AnnAssign)]
    held = {child for node in given for child in ast.iter_child_nodes(node)} | set(given)
    return {one.value for one in held if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def test_every_statement_is_used():
    """By its name in a call, by one in a call that is put together (statement(f"rules/{name}")), or in a statement."""
    used = {name for module, own in ALL for name in re.findall(r"\{(?:\w+\.)?(\w+/\w+)\}", statements(module)[own])}
    texts = [path.read_text() for path in sources()]
    given = set().union(*(arguments(ast.parse(text)) for text in texts))
    begun = {start for text in texts for start in re.findall(r"""statement\(f["'](\w+/\w*)\{""", text)}
    used |= given | {f"{start}{name}" for start in begun for name in given}
    assert sorted({f"{module}/{own}" for module, own in ALL} - used) == []


def test_statements_include_what_there_is():
    for module, own in ALL:
        assert not re.search(r"\{\w+/\w+\}", statement(f"{module}/{own}"))
    assert statement("apply/invoice_columns") in statement("apply/copy_staged")


@pytest.mark.parametrize("module", modules())
def test_a_file_says_what_its_module_does_and_each_longer_statement_why(module):
    """And is laid out as all are: the file's comment, then for each statement a blank line, name, comment and text."""
    text = (FOLDER / f"{module}.sql").read_text()
    header, *parts = re.split(r"\n^-- name: (\w+)\n", text, flags=re.MULTILINE)
    assert all(line.startswith("-- ") for line in header.splitlines()), "the file begins with a comment"
    assert header.strip()
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    assert text.count("-- name:") == len(parts[::2]) == len(statements(module))
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        assert body == body.strip() + "\n", f"{name}: one blank line between two statements"
        assert body.startswith("-- ") or len(body.splitlines()) <= 8, f"{name}: a comment that says why"


def test_literals_are_quoted_for_spark():
    assert literals(["A'B", "C\\D"]) == r"'A\'B', 'C\\D'"
    assert "'ONGKIR'" in line_condition("counting_line", ["ONGKIR"])


def test_unknown_statement_is_an_error():
    with pytest.raises(LookupError, match=r"'none_such' in sql/apply\.sql, only: create_stage, take_over\b"):
        statement("apply/none_such")
    with pytest.raises(LookupError, match=r"no file sql/none\.sql, only: apply, backup\b"):
        statement("none/such")


def test_two_statements_of_a_name_are_an_error(tmp_path, monkeypatch):
    (tmp_path / "twice.sql").write_text("-- Twice.\n\n-- name: a\nSELECT 1\n\n-- name: a\nSELECT 2\n")
    monkeypatch.setattr("sql.FOLDER", tmp_path)
    with pytest.raises(LookupError, match=r"sql/twice\.sql has more than one statement of the name a"):
        statement("twice/a")


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
    for source in sources():
        assert not long_sql.search(source.read_text()), source
