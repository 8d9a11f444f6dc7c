"""Apply against a real PostgreSQL, on batches that a person can check by hand; no Spark, no Kafka."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import psycopg2
import pyarrow as pa
import pytest

from conf.settings import Settings
from streaming.apply import Applied, apply_batch
from streaming.errors import FencedError, GapError, TopicChangedError
from streaming.mart import connect, describe_shop
from streaming.migrate import migrate
from streaming.positions import Writer, check_topic, forget, read_positions, take_over
from streaming.source import Topic
from tests.integration.mart_rows import rows, snapshot

pytestmark = pytest.mark.stack
TOPIC = Topic("invoices", "11111111-1111-1111-1111-111111111111", {0: 0, 1: 0}, {0: 100, 1: 100})
AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("us", "UTC")),
        ("invoice", pa.string()),
        ("invoice_date", pa.timestamp("us")),
        ("customer_id", pa.string()),
        ("content_sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
        ("line_count", pa.int32()),
        ("counting_lines", pa.int32()),
        ("purchased", pa.decimal128(38, 2)),
        ("returned", pa.decimal128(38, 2)),
    ]
)


def cleaned(offset, invoice, date, customer, purchased="1.00", returned="0", counting=1, partition=0, content="same"):
    """One row of a cleaned batch, a valid invoice."""
    return {
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": AT,
        "invoice": invoice,
        "invoice_date": datetime.fromisoformat(date),
        "customer_id": customer,
        "content_sha256": hashlib.sha256(f"{invoice} {content}".encode()).hexdigest(),
        "line_count": max(1, counting),
        "counting_lines": counting,
        "purchased": Decimal(purchased),
        "returned": Decimal(returned),
    }


def wrong(offset, raw, reason="not_json", partition=0):
    """One row of a cleaned batch, a rejected record."""
    return {
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": AT,
        "reason": reason,
        "detail": "why",
        "raw": raw,
    }


class Mart:
    """A migrated mart with one writer."""

    def __init__(self, mart, policy="ignore"):
        self.dsn, self.policy = mart.owner_dsn, policy
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            migrate(owner)
        self.connection = connect(mart.writer_dsn)
        describe_shop(self.connection, Settings(returns_policy=policy))
        self.writer = self.take_over()

    def take_over(self, topic=TOPIC) -> Writer:
        with self.connection, self.connection.cursor() as cursor:
            return take_over(cursor, topic, "test")

    def apply(self, *records, writer=None) -> Applied:
        batch = pa.Table.from_pylist(list(records), schema=SCHEMA)
        return apply_batch(
            self.connection,
            writer or self.writer,
            batch,
            self.policy,
            lambda coordinates: {c: b"raw %d %d" % c for c in coordinates},
        )

    def rows(self, statement, parameters=None):
        return rows(self.dsn, statement, parameters)

    def customers(self):
        return self.rows(
            "SELECT customer_id, recency, frequency, monetary, r, f, m, customer_segment"
            " FROM mart.customer_segmentation ORDER BY 1"
        )


@pytest.fixture
def mart(fresh_mart):
    mart = Mart(fresh_mart)
    yield mart
    mart.connection.close()


def test_one_batch_by_hand(mart):
    applied = mart.apply(
        cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00"),
        cleaned(1, "2", "2025-03-05T10:00:00", "a", "0.05"),
        cleaned(2, "3", "2025-02-01T10:00:00", "b", "7.50"),
        cleaned(3, "4", "2025-03-06T23:59:59", None, "99.00"),
        cleaned(0, "5", "2025-03-02T00:00:00", "c", "0.00", counting=0, partition=1),
        wrong(1, b"\x00\xff", partition=1),
    )
    assert (applied.records, applied.invoices, applied.duplicates, applied.rejected) == (6, 5, 0, 1)
    assert applied.next_offsets == {0: 4, 1: 2}
    # As of 2025-03-06, the newest invoice, although its customer is unknown. Two customers: tiles 1 and 2.
    assert mart.customers() == [
        ("a", 1, 2, Decimal("10.05"), 2, 2, 2, "Needs Attention"),
        ("b", 33, 1, Decimal("7.50"), 1, 1, 1, "Needs Attention"),
    ]
    assert mart.rows('SELECT "partition", "offset", reason, raw FROM mart.rejected_invoice') == [
        (1, 1, "not_json", b"\x00\xff")
    ]
    assert mart.rows("SELECT records, invoices, duplicates, rejected FROM mart.batch") == [(6, 5, 0, 1)]
    assert dict(mart.rows("SELECT customer_segment, customers FROM mart.segment_count")) == {
        "Champions": 0,
        "Potential Loyalists": 0,
        "Loyal Customers": 0,
        "At Risk": 0,
        "New Customers": 0,
        "Needs Attention": 2,
    }


def test_same_records_in_any_order_and_number_give_the_same_mart(mart):
    a = cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00")
    b = cleaned(1, "2", "2025-03-05T10:00:00", "b", "3.00")
    mart.apply(a, b)
    before = snapshot(mart.dsn)
    again = mart.apply({**b, "offset": 2}, {**a, "offset": 3}, {**a, "offset": 0, "partition": 1})
    assert (again.records, again.invoices, again.duplicates) == (3, 0, 3)
    assert snapshot(mart.dsn) == before


def test_overlap_is_skipped_and_gap_refused(mart):
    first = cleaned(0, "1", "2025-03-01T10:00:00", "a")
    mart.apply(first)
    overlap = mart.apply(first, cleaned(1, "2", "2025-03-01T10:00:00", "a"))
    assert (overlap.skipped, overlap.records, overlap.invoices) == (1, 1, 1)
    assert mart.apply(first).records == 0
    before = snapshot(mart.dsn)
    with pytest.raises(GapError, match=r"partition 0: the batch starts at offset 3, the mart's position is 2"):
        mart.apply(cleaned(3, "4", "2025-03-01T10:00:00", "a"))
    with pytest.raises(GapError, match="partition 1"):
        mart.apply(cleaned(1, "5", "2025-03-01T10:00:00", "a", partition=1))
    assert snapshot(mart.dsn) == before


def test_older_writer_is_fenced(mart):
    older = mart.writer
    newer = mart.take_over()
    assert newer.epoch == older.epoch + 1
    with pytest.raises(FencedError, match="only one job may write"):
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"), writer=older)
    assert mart.customers() == []
    assert mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"), writer=newer).invoices == 1


def test_conflicting_duplicate_is_quarantined_and_the_first_stays(mart):
    first = cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00")
    other = cleaned(1, "1", "2025-03-01T10:00:00", "a", "99.00", content="other")
    applied = mart.apply(first, other, {**first, "offset": 2})
    assert (applied.invoices, applied.duplicates, applied.rejected) == (1, 1, 1)
    applied = mart.apply({**other, "offset": 3}, {**other, "offset": 0, "partition": 1})
    assert (applied.invoices, applied.duplicates, applied.rejected) == (0, 0, 2)
    assert mart.customers()[0][3] == Decimal("10.00")
    assert mart.rows('SELECT "partition", "offset", reason, raw FROM mart.rejected_invoice ORDER BY 1, 2') == [
        (0, 1, "conflicting_duplicate", b"raw 0 1"),
        (0, 3, "conflicting_duplicate", b"raw 0 3"),
        (1, 0, "conflicting_duplicate", b"raw 1 0"),
    ]


def test_rewound_topic_changes_nothing(mart):
    records = [cleaned(0, "1", "2025-03-01T10:00:00", "a"), wrong(1, b"x"), cleaned(2, "1", "2025-03-01T10:00:00", "a")]
    mart.apply(*records)
    before, quarantined = snapshot(mart.dsn), mart.rows("SELECT * FROM mart.rejected_invoice")
    with mart.connection, mart.connection.cursor() as cursor:
        forget(cursor, TOPIC.name)
        assert read_positions(cursor, TOPIC) == {}
    applied = mart.apply(*records)
    assert (applied.invoices, applied.duplicates, applied.rejected) == (0, 2, 1)
    assert snapshot(mart.dsn) == before
    assert mart.rows("SELECT * FROM mart.rejected_invoice") == quarantined


def test_recreated_topic_is_an_error_until_rewound(mart):
    mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"))
    recreated = Topic(TOPIC.name, "22222222-2222-2222-2222-222222222222", {0: 0}, {0: 0})
    with mart.connection, mart.connection.cursor() as cursor:
        check_topic(cursor, TOPIC)
        with pytest.raises(TopicChangedError, match="rewind"):
            check_topic(cursor, recreated)
        forget(cursor, TOPIC.name)
        check_topic(cursor, recreated)


def test_failed_batch_leaves_nothing_behind(mart):
    before = snapshot(mart.dsn)
    too_large = {**cleaned(1, "2", "2025-03-01T10:00:00", "a"), "purchased": Decimal("9e35")}
    with pytest.raises(psycopg2.errors.CheckViolation):
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"), too_large)
    assert snapshot(mart.dsn) == before
    assert mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a")).invoices == 1


def test_net_policy_lowers_monetary_also_before_the_purchase(fresh_mart):
    mart = Mart(fresh_mart, policy="net")
    mart.apply(cleaned(0, "C1", "2025-03-02T10:00:00", "a", "0", "-4.00", counting=0))
    assert mart.customers() == []
    mart.apply(cleaned(1, "2", "2025-03-01T10:00:00", "a", "10.00"))
    [(customer, recency, frequency, monetary, *_)] = mart.customers()
    assert (customer, recency, frequency, monetary) == ("a", 1, 1, Decimal("6.00"))


def test_changed_policy_rebuilds_monetary(mart):
    mart.apply(
        cleaned(0, "1", "2025-03-01T10:00:00", "a", "10.00"),
        cleaned(1, "C2", "2025-03-02T10:00:00", "a", "0", "-4.00", counting=0),
        cleaned(2, "C3", "2025-03-02T10:00:00", "b", "0", "-1.00", counting=0),
    )
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal("10.00"))]
    describe_shop(mart.connection, Settings(returns_policy="net"))
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal("6.00"))]
    describe_shop(mart.connection, Settings(returns_policy="ignore"))
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal("10.00"))]


def test_segment_changes_tell_own_purchases_from_overtaken(mart):
    people = [cleaned(n, f"{n}", f"2025-03-0{n + 1}T10:00:00", f"c{n}", f"{n + 1}.00") for n in range(5)]
    mart.apply(*people)
    assert [(c[0], *c[4:7]) for c in mart.customers()] == [(f"c{n}", n + 1, n + 1, n + 1) for n in range(5)]
    # c0 buys again and becomes the best in all; everyone else falls one tile.
    mart.apply(cleaned(5, "5", "2025-03-09T10:00:00", "c0", "100.00"))
    assert [(c[0], *c[4:7]) for c in mart.customers()] == [
        ("c0", 5, 5, 5),
        ("c1", 1, 1, 1),
        ("c2", 2, 2, 2),
        ("c3", 3, 3, 3),
        ("c4", 4, 4, 4),
    ]
    moves = mart.rows(
        "SELECT customer_id, from_segment, to_segment, cause, invoice, event_time FROM mart.segment_change"
        " WHERE from_segment IS NOT NULL ORDER BY 1"
    )
    event_time = datetime(2025, 3, 9, 10)
    assert moves == [
        ("c0", "Needs Attention", "Champions", "own purchase", "5", event_time),
        ("c2", "Loyal Customers", "Needs Attention", "overtaken", None, event_time),
        ("c3", "Champions", "Loyal Customers", "overtaken", None, event_time),
    ]
    [(entered,)] = mart.rows("SELECT count(*) FROM mart.segment_change WHERE from_segment IS NULL")
    assert entered == 5


def test_reader_sees_views_only(mart, fresh_mart):
    mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"))
    assert rows(fresh_mart.reader_dsn, "SELECT customer_id, recency FROM mart.customer_segmentation") == [("a", 0)]
    assert sum(n for _, n, _ in rows(fresh_mart.reader_dsn, "SELECT * FROM mart.segment_count")) == 1
    for table in ("invoice", "customer", "rejected_invoice", "stream_position", "segment_change", "shop"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(fresh_mart.reader_dsn, f"SELECT * FROM mart.{table}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(fresh_mart.writer_dsn, "DELETE FROM mart.invoice")
