"""What each role must not do, tried on a real mart: PostgreSQL itself refuses."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from tests.builders.mart_rows import rows

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
    "DELETE FROM mart.pruned_invoice",
    "UPDATE mart.customer_carried SET frequency = 0",
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


def test_writer(pipeline):
    for statement in WRITER_MUST_NOT:
        assert_refused(pipeline.mart.writer_dsn, statement)
    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as writer, writer, writer.cursor() as cursor:
        cursor.execute("GRANT SELECT ON mart.invoice TO analytics_reader")  # a warning only: nothing is granted
    assert_refused(pipeline.mart.reader_dsn, "SELECT * FROM mart.invoice")


def test_reader_reads_no_table_and_changes_nothing(pipeline):
    tables = rows(pipeline.mart.owner_dsn, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'mart'")
    assert len(tables) > 10
    for (table,) in tables:
        assert_refused(pipeline.mart.reader_dsn, f"SELECT * FROM mart.{table}")
        assert_refused(pipeline.mart.reader_dsn, f"DELETE FROM mart.{table}")
    assert_refused(pipeline.mart.reader_dsn, "CREATE TABLE mart.mine (n int)")
    assert rows(pipeline.mart.reader_dsn, "SELECT count(*) FROM mart.customer_segmentation") == [(0,)]


def test_owner_is_no_superuser_and_each_has_a_password_of_its_own(pipeline):
    dsns = (pipeline.mart.owner_dsn, pipeline.mart.writer_dsn, pipeline.mart.reader_dsn)
    assert len({urlsplit(dsn).password for dsn in dsns}) == 3
    assert_refused(pipeline.mart.owner_dsn, "SELECT passwd FROM pg_shadow")
    assert_refused(pipeline.mart.owner_dsn, "CREATE ROLE mine")
    for dsn in dsns:
        assert rows(dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]


READ_ALIKE = """
function mart.explain_carried(text): EXECUTE
function mart.explain_moves(text,integer): EXECUTE
function mart.explain_purchases(text,integer): EXECUTE
function mart.explain_scores(text): EXECUTE
function mart.recommend(text[],integer): EXECUTE
schema mart: USAGE
view mart.as_of: SELECT
view mart.customer_segmentation: SELECT
view mart.market_basket_analysis: SELECT
view mart.nightly_status: SELECT
view mart.quarantine_count: SELECT
view mart.recent_latency: SELECT
view mart.recent_minute: SELECT
view mart.rule_drift: SELECT
view mart.score_count: SELECT
view mart.score_status: SELECT
view mart.segment_count: SELECT
view mart.segment_count_history: SELECT
view mart.segment_flow: SELECT
view mart.segment_move: SELECT
view mart.stream_batch: SELECT
view mart.stream_progress: SELECT
view mart.stream_status: SELECT
"""
WRITER_ALONE = """
column mart.rejected_invoice.detail: UPDATE
column mart.rejected_invoice.outcome: UPDATE
column mart.rejected_invoice.reason: UPDATE
column mart.rejected_invoice.settled_at: UPDATE
function mart.move_cuts(): EXECUTE
table mart.association_rule: INSERT, SELECT
table mart.batch: INSERT, SELECT
table mart.customer: INSERT, SELECT, UPDATE
table mart.customer_carried: SELECT
table mart.erased_customer: SELECT
table mart.erasure_salt: SELECT
table mart.invoice: INSERT, SELECT
table mart.pruned_invoice: SELECT
table mart.pruned_total: SELECT
table mart.quintile_cut: DELETE, INSERT, SELECT, UPDATE
table mart.reject_reason: SELECT
table mart.rejected_invoice: INSERT, SELECT
table mart.rule_run: DELETE, INSERT, SELECT, UPDATE
table mart.score_check: INSERT, SELECT
table mart.score_total: DELETE, INSERT, SELECT, UPDATE
table mart.segment_change: INSERT, SELECT
table mart.segment_flow_total: INSERT, SELECT, UPDATE
table mart.segment_score: SELECT
table mart.segment_trend: DELETE, INSERT, SELECT, UPDATE
table mart.shop: INSERT, SELECT, UPDATE
table mart.next_offset: DELETE, INSERT, SELECT, UPDATE
table mart.stream_total: SELECT, UPDATE
table mart.stream_writer: INSERT, SELECT, UPDATE
"""
EVERYONE = """
database: CONNECT, TEMPORARY
schema public: USAGE
"""
# Everything of this database that a grantee may do, one row an object; what a new object gets by itself is told, too.
GRANTS = """
WITH granted (object, grantee, privilege) AS (
    SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.oid::regclass, g.grantee,
           g.privilege_type || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) g
    WHERE c.relnamespace IN ('mart'::regnamespace, 'public'::regnamespace)
    UNION ALL
    SELECT 'column ' || attrelid::regclass || '.' || attname, g.grantee, g.privilege_type
    FROM pg_attribute CROSS JOIN aclexplode(attacl) g
    WHERE attrelid::regclass::text LIKE 'mart.%%'
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure, g.grantee, g.privilege_type
    FROM pg_proc p CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    WHERE p.pronamespace IN ('mart'::regnamespace, 'public'::regnamespace)
    UNION ALL
    SELECT 'schema ' || nspname, g.grantee, g.privilege_type
    FROM pg_namespace CROSS JOIN aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g
    WHERE nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
    UNION ALL
    SELECT 'database', g.grantee, g.privilege_type
    FROM pg_database CROSS JOIN aclexplode(coalesce(datacl, acldefault('d', datdba))) g
    WHERE datname = current_database()
    UNION ALL
    SELECT 'future ' || defaclobjtype::text, g.grantee, g.privilege_type
    FROM pg_default_acl CROSS JOIN aclexplode(defaclacl) g
    UNION ALL
    SELECT 'member of ' || roleid::regrole, member, 'SET ROLE' FROM pg_auth_members
)
SELECT object || ': ' || string_agg(DISTINCT privilege, ', ' ORDER BY privilege)
FROM granted
WHERE grantee = coalesce((SELECT oid FROM pg_roles WHERE rolname = %s), 0)
GROUP BY object
"""


@pytest.mark.parametrize(
    ("grantee", "expected"),
    [
        ("mart_writer", READ_ALIKE + WRITER_ALONE),
        ("analytics_reader", READ_ALIKE),
        ("everyone", EVERYONE),
    ],
    ids=["writer", "reader", "everyone"],
)
def test_grants_are_exactly_these(pipeline, grantee, expected):
    """A new grant is to be written down here, and to be asked for its reason."""
    found = {row for (row,) in rows(pipeline.mart.owner_dsn, GRANTS, (grantee,))}
    assert found == set(expected.split("\n")) - {""}


def test_one_more_grant_is_seen(pipeline):
    before = set(rows(pipeline.mart.owner_dsn, GRANTS, ("analytics_reader",)))
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("GRANT SELECT (customer_id) ON mart.invoice TO analytics_reader")
        cursor.execute("GRANT DELETE ON mart.rule_run TO analytics_reader")
    more = set(rows(pipeline.mart.owner_dsn, GRANTS, ("analytics_reader",))) - before
    assert more == {("column mart.invoice.customer_id: SELECT",), ("table mart.rule_run: DELETE",)}
