"""The dashboards' views on marts that a person can check by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import psycopg2
import pytest

from conf.settings import Settings
from mart.shop_rules import apply_shop_rules
from tests.builders.applied import Mart, cleaned, wrong

pytestmark = pytest.mark.stack


@pytest.fixture
def mart(fresh_mart):
    mart = Mart(fresh_mart)
    yield mart
    mart.connection.close()


def aged(seconds: float, record: dict) -> dict:
    """The record as produced so many seconds ago."""
    return {**record, "kafka_timestamp": datetime.now(UTC) - timedelta(seconds=seconds)}


def test_status_of_an_empty_mart_is_one_row_of_zeros(mart):
    [(invoices, revenue, rate, latency, writer)] = mart.rows(
        "SELECT invoices, revenue, invoices_per_second, latency_ms, writer_epoch FROM mart.stream_status"
    )
    assert (invoices, revenue, rate, latency, writer) == (0, 0, 0, None, mart.writer.epoch)


def test_status_sums_batches_and_follows_the_returns_policy(mart):
    mart.apply(
        aged(9, cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00")),
        aged(2, cleaned(1, "2", "2025-03-02T10:00:00", None, "5.50")),
    )
    mart.apply(
        aged(1, cleaned(2, "C3", "2025-03-03T10:00:00", "a", "0", "-4.00", counting=0)),
        aged(1, cleaned(3, "1", "2025-03-01T10:00:00", "a", "10.00")),
        aged(1, wrong(4, b"x")),
    )
    question = (
        "SELECT invoices, duplicates, rejected, revenue, invoices_per_second, newest_invoice_date"
        " FROM mart.stream_status"
    )
    # The duplicate of invoice 1 brings no revenue; 3 invoices in the last 10 seconds.
    newest = datetime(2025, 3, 3, 10)
    assert mart.rows(question) == [(3, 1, 1, Decimal("15.50"), Decimal("0.3"), newest)]
    apply_shop_rules(mart.connection, Settings(returns_policy="net"))
    assert mart.rows(question)[0][3] == Decimal("11.50")
    [(latency, behind)] = mart.rows("SELECT latency_ms, behind_ms FROM mart.stream_status")
    assert 9_000 <= latency < 60_000  # the slowest record of all recent batches
    assert 1_000 <= behind < 9_000  # the newest record of the last batch


def test_status_knows_whether_a_job_is_connected(mart):
    question = "SELECT writer_connected, writer_application, behind_ms FROM mart.stream_status"
    mart.apply(aged(1, cleaned(0, "1", "2025-03-01T10:00:00", "a")))
    [(connected, application, behind)] = mart.rows(question)
    assert (connected, application) == (True, "test")
    assert mart.rows(question)[0][2] == behind  # caught up: time alone leaves nothing behind
    mart.connection.close()
    while mart.rows(question)[0][0]:  # the server notices within moments
        pass
    [(connected, application, without_job)] = mart.rows(question)
    assert (connected, application) == (False, "test")
    assert mart.rows(question)[0][2] > without_job > behind  # what comes now is not applied


@contextmanager
def failing_commits(owner_dsn: str) -> Iterator[None]:
    """Each batch fails at its very end."""
    with closing(psycopg2.connect(owner_dsn)) as owner, owner.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION mart.fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no commit''; END';"
            "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON mart.batch DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION mart.fail()"
        )
        owner.commit()
        yield
        cursor.execute("DROP TRIGGER fails ON mart.batch; DROP FUNCTION mart.fail()")
        owner.commit()


def test_reader_is_told_of_each_committed_batch(mart, fresh_mart):
    with closing(psycopg2.connect(fresh_mart.reader_dsn)) as reader:
        reader.autocommit = True
        reader.cursor().execute("LISTEN mart_batch")
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"))
        with failing_commits(fresh_mart.owner_dsn), pytest.raises(psycopg2.errors.RaiseException):
            mart.apply(cleaned(1, "2", "2025-03-01T10:00:00", "a"))  # rolled back: nobody is told
        mart.apply(cleaned(1, "2", "2025-03-01T10:00:00", "a"))
        reader.cursor().execute("SELECT 1")
        reader.poll()
        batches = [str(n) for (n,) in mart.rows("SELECT id FROM mart.batch ORDER BY id")]
        assert [notice.payload for notice in reader.notifies] == batches
        assert len(batches) == 2


def test_minutes_of_the_last_hour_have_no_holes(mart):
    mart.apply(
        cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00"), cleaned(1, "2", "2025-03-02T10:00:00", "b", "2.50")
    )
    mart.apply(wrong(2, b"x"))
    [(now, before)] = mart.rows("SELECT date_trunc('minute', now()), now() - interval '30 minutes'")
    with closing(psycopg2.connect(mart.dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("UPDATE mart.batch SET applied_at = %s WHERE invoices = 2", (before,))
    minutes = mart.rows("SELECT minute, invoices, revenue, rejected FROM mart.recent_minute ORDER BY 1")
    assert len(minutes) == 60
    assert [b[0] - a[0] for a, b in pairwise(minutes)] == [timedelta(minutes=1)] * 59
    busy = [row for row in minutes if row[1:] != (0, 0, 0)]
    assert [row[1:] for row in busy] == [(2, Decimal("12.50"), 0), (0, 0, 1)]
    assert busy[0][0] == before.replace(second=0, microsecond=0)
    assert busy[1][0] - now in (timedelta(0), timedelta(minutes=1))  # a minute may have begun meanwhile


def test_latency_is_that_of_the_fastest_and_the_slowest_record(mart):
    mart.apply(
        aged(30, cleaned(0, "1", "2025-03-01T10:00:00", "a")), aged(4, cleaned(1, "2", "2025-03-01T10:00:00", "b"))
    )
    with closing(psycopg2.connect(mart.dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(
            "UPDATE mart.batch SET applied_at = applied_at - interval '1 minute',"
            " oldest_kafka_timestamp = oldest_kafka_timestamp - interval '1 minute',"
            " newest_kafka_timestamp = newest_kafka_timestamp - interval '1 minute'"
        )
    moments = mart.rows("SELECT invoices_per_second, fastest_ms, slowest_ms FROM mart.recent_latency ORDER BY moment")
    assert len(moments) == 120
    assert moments[-1] == (None, None, None)  # the running 5 seconds have no rate yet
    [(rate, fastest, slowest)] = [row for row in moments if row[0]]
    assert rate == Decimal("0.4")
    assert 4_000 <= fastest < 30_000 <= slowest < 60_000
    assert {row for row in moments if not row[0]} == {(0, None, None), (None, None, None)}


def test_grid_of_scores_and_quarantine_have_all_their_rows(mart):
    mart.apply(
        *(cleaned(n, f"{n}", f"2025-03-0{n + 1}T10:00:00", f"c{n}", f"{n + 1}.00") for n in range(5)),
        wrong(5, b"x"),
        wrong(6, b"y", "bad_date"),
        wrong(7, b"z"),
    )
    grid = {
        (r, f): (n, spent) for r, f, n, spent in mart.rows("SELECT r, f, customers, monetary FROM mart.score_count")
    }
    assert len(grid) == 25
    assert {cell: found for cell, found in grid.items() if found[0]} == {
        (n, n): (1, Decimal(f"{n}.00")) for n in range(1, 6)
    }
    counts = dict(mart.rows("SELECT reason, records FROM mart.quarantine_count"))
    assert {reason: n for reason, n in counts.items() if n} == {"not_json": 2, "bad_date": 1}
    assert len(counts) == mart.rows("SELECT count(*) FROM mart.reject_reason")[0][0]
