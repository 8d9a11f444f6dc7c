"""What each role must not do, tried on a real mart: PostgreSQL itself refuses."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from tests.integration.mart_rows import rows

pytestmark = pytest.mark.stack

WRITER_MUST_NOT = [
    "CREATE TABLE mart.mine (n int)",
    "CREATE TABLE public.mine (n int)",
    "CREATE SCHEMA mine",
    "DROP TABLE mart.invoice",
    "ALTER TABLE mart.customer ADD COLUMN more int",
    "TRUNCATE mart.invoice",
    "DELETE FROM mart.invoice",
    "UPDATE mart.invoice SET purchased = 0",
    "DELETE FROM mart.customer",
    "DELETE FROM mart.segment_change",
    "UPDATE mart.segment_change SET customer_id = 'x'",
    "UPDATE mart.rejected_invoice SET raw = ''",
    "DELETE FROM mart.rejected_invoice",
    "INSERT INTO mart.erased_customer SELECT * FROM mart.erased_customer",
    "DELETE FROM mart.erased_customer",
    "SELECT passwd FROM pg_shadow",
    "CREATE ROLE mine",
]


def assert_refused(dsn: str, statement: str) -> None:
    with (
        closing(psycopg2.connect(dsn)) as connection,
        connection.cursor() as cursor,
        pytest.raises(InsufficientPrivilege),  # "must be owner" and "permission denied" are the same error
    ):
        cursor.execute(statement)


def test_writer(line):
    for statement in WRITER_MUST_NOT:
        assert_refused(line.mart.writer_dsn, statement)
    with closing(psycopg2.connect(line.mart.writer_dsn)) as writer, writer, writer.cursor() as cursor:
        cursor.execute("GRANT SELECT ON mart.invoice TO analytics_reader")  # a warning only: nothing is granted
    assert_refused(line.mart.reader_dsn, "SELECT * FROM mart.invoice")


def test_reader_reads_no_table_and_changes_nothing(line):
    tables = rows(line.mart.owner_dsn, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'mart'")
    assert len(tables) > 10
    for (table,) in tables:
        assert_refused(line.mart.reader_dsn, f"SELECT * FROM mart.{table}")
        assert_refused(line.mart.reader_dsn, f"DELETE FROM mart.{table}")
    assert_refused(line.mart.reader_dsn, "CREATE TABLE mart.mine (n int)")
    assert rows(line.mart.reader_dsn, "SELECT count(*) FROM mart.customer_segmentation") == [(0,)]


def test_owner_is_no_superuser_and_each_has_a_password_of_its_own(line):
    dsns = (line.mart.owner_dsn, line.mart.writer_dsn, line.mart.reader_dsn)
    assert len({urlsplit(dsn).password for dsn in dsns}) == 3
    assert_refused(line.mart.owner_dsn, "SELECT passwd FROM pg_shadow")
    assert_refused(line.mart.owner_dsn, "CREATE ROLE mine")
    for dsn in dsns:
        assert rows(dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
