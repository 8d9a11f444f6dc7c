"""Apply against a real PostgreSQL, on batches that a person can check by hand; no Spark, no Kafka."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import psycopg2
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from conf.errors import FencedError, GapError, StreamingError, TopicChangedError
from conf.phases import Phases
from conf.settings import Settings
from mart.connection import connect
from mart.next_offsets import check_topic, forget, read_next_offsets, take_over
from mart.reject_reason import RejectReason
from mart.score import check_scores, lock_scores
from mart.shop_rules import adopt_rules, apply_shop_rules
from streaming.progress import report_applied
from tests.builders.applied import AT, TOPIC, Mart, cleaned, wrong
from tests.builders.mart_rows import rows, snapshot
from topic.describe import Topic

pytestmark = pytest.mark.stack


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
    # As of 2025-03-06, the newest invoice, although its customer is unknown. Two customers: quintiles 1 and 2.
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


@pytest.mark.parametrize("of", ["the environment", "the database"])
def test_texts_are_utf8_whatever_encoding_a_session_would_have(mart, fresh_mart, monkeypatch, of):
    """What apply copies is UTF-8: in a session of LATIN1 PostgreSQL took each byte for a character."""
    if of == "the environment":
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    else:
        with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {owner.info.dbname} SET client_encoding = 'LATIN1'")
    mart.connection.close()
    mart.connection = connect(Settings(mart_dsn=fresh_mart.writer_dsn).require_mart())
    mart.apply(cleaned(0, "№ 1", "2025-03-01T10:00:00", "José", "10.00"))
    stored = mart.rows("SELECT encode(convert_to(invoice || customer_id, 'UTF8'), 'hex') FROM mart.invoice")
    assert bytes.fromhex(stored[0][0]).decode() == "№ 1José"


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
    with pytest.raises(GapError, match=r"partition 0: the batch starts at offset 3, the mart's next offset is 2"):
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
        assert read_next_offsets(cursor, TOPIC) == {}
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


def test_failed_batch_leaves_nothing_behind(mart, fresh_mart):
    before = snapshot(mart.dsn)
    owner_says(fresh_mart, "REVOKE INSERT ON mart.segment_change FROM mart_writer")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"))
    assert snapshot(mart.dsn) == before
    owner_says(fresh_mart, "GRANT INSERT ON mart.segment_change TO mart_writer")
    assert mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a")).invoices == 1


def owner_says(fresh_mart, statement):
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)


def at_year(year):
    """A timestamp that no datetime holds; microseconds where Kafka wants milliseconds are the year 57000."""
    return pa.scalar((year - 1970) * 31_556_952 * 1_000_000, pa.timestamp("us", "UTC"))


CULPRITS = {
    "a timestamp of the year 57000": lambda row: row | {"kafka_timestamp": at_year(57_000)},
    "one that Arrow writes as of 2025": lambda row: row | {"kafka_timestamp": at_year(2025 + 65_536)},
    "one that PostgreSQL stores and Python does not read": lambda row: row | {"kafka_timestamp": at_year(12_000)},
    "one from before our calendar": lambda row: row | {"kafka_timestamp": at_year(-3000)},
    "a date of the year 12000": lambda row: row | {"invoice_date": at_year(12_000).cast(pa.timestamp("us"))},
    "NUL in a text": lambda row: row | {"invoice": f"{row['invoice']}\0"},
    "a key too large for an index": lambda row: row | {"invoice": random.Random(1).randbytes(4000).hex()},
    "a customer too large for an index": lambda row: row | {"customer_id": random.Random(1).randbytes(4000).hex()},
    "an amount that CHECK refuses": lambda row: row | {"purchased": Decimal("9e35")},
    "no date": lambda row: row | {"invoice_date": None},
    "a digest that is none": lambda row: row | {"content_sha256": "zz"},
    "counting more lines than there are": lambda row: row | {"counting_lines": 2},
}


def test_records_that_postgresql_refuses_are_quarantined_and_the_others_are_applied(mart):
    expected = []
    for batch, (kind, spoil) in enumerate(CULPRITS.items()):
        begin = batch * 21
        culprits = {begin, begin + 7, begin + 8, begin + 19}
        records = [
            cleaned(n, f"{n}", f"2025-03-{n % 28 + 1:02}T10:00:00", f"c{n % 9}", "1.00")
            for n in range(begin, begin + 20)
        ]
        expected += [f"{n}" for n in range(begin, begin + 20) if n not in culprits]
        records = [spoil(row) if row["offset"] in culprits else row for row in records]
        records.append(wrong(begin + 20, b"{"))
        applied = mart.apply(*records)
        assert (applied.records, applied.invoices, applied.duplicates, applied.rejected) == (21, 16, 0, 5), kind
        assert applied.rejected_by_reason == {RejectReason.INTERNAL_ERROR: 4, RejectReason.NOT_JSON: 1}, kind
        assert applied.next_offsets == {0: begin + 21}
        assert {applied.oldest_kafka_timestamp, applied.newest_kafka_timestamp} == {AT}, kind
        assert mart.apply(*records).records == 0
        found = mart.rows(
            'SELECT "offset", raw FROM mart.rejected_invoice WHERE "offset" >= %s AND reason = %s'
            " AND starts_with(detail, 'PostgreSQL: ') ORDER BY 1",
            (begin, "internal_error"),
        )
        assert found == [(n, b"raw 0 %d" % n) for n in sorted(culprits)], kind
    assert mart.rows("SELECT invoice FROM mart.invoice ORDER BY length(invoice), invoice") == [(n,) for n in expected]
    assert mart.rows("SELECT sum(monetary), sum(frequency) FROM mart.customer") == [(len(expected), len(expected))]
    assert mart.rows("SELECT invoices, purchased FROM mart.stream_total") == [(len(expected), len(expected))]
    assert check_scores(mart.connection).is_right


def test_a_timestamp_that_tells_no_latency_is_in_none(mart):
    """Moved into the range of what is stored, it is of 1970 or 2099; a clock that is ahead makes no negative age."""
    coming = datetime.now(UTC) + timedelta(hours=1)
    moved = wrong(0, b"{", "bad_timestamp") | {"kafka_timestamp": datetime(1970, 1, 1, tzinfo=UTC)}
    ahead = [
        cleaned(1, "1", "2025-03-01T10:00:00", "a") | {"kafka_timestamp": coming},
        wrong(2, b"{") | {"kafka_timestamp": coming},
    ]
    applied = mart.apply(moved, *ahead)
    assert (applied.records, applied.invoices) == (3, 1)
    assert (applied.oldest_kafka_timestamp, applied.newest_kafka_timestamp) == (None, None)
    applied = mart.apply(
        moved | {"offset": 3}, ahead[1] | {"offset": 4}, cleaned(5, "2", "2025-03-01T10:00:00", "a"), wrong(6, b"{")
    )
    assert applied.kafka_timestamps.to_pylist() == [AT, AT]
    assert (applied.oldest_kafka_timestamp, applied.newest_kafka_timestamp) == (AT, AT)
    latency = "SELECT oldest_latency_ms >= 0, newest_latency_ms >= 0 FROM mart.stream_batch ORDER BY id"
    assert mart.rows(latency) == [(None, None), (True, True)]
    with capture_logs() as lines:
        report_applied(applied, mart.writer, Phases(), MagicMock())
    [said] = lines
    age = (datetime.now(UTC) - AT).total_seconds() * 1000
    assert said["latency_ms_oldest"] == said["latency_ms_newest"] == pytest.approx(age, abs=60_000)


def test_of_records_that_spoil_a_sum_together_the_last_one_is_refused(mart):
    """One customer's monetary, and the shop's total: each record by itself is stored."""
    half = [cleaned(n, f"{n}", "2025-03-01T10:00:00", "a", "6e34") for n in range(3)]
    others = [cleaned(n, f"{n}", "2025-03-02T10:00:00", f"c{n}", "9e34") for n in range(3, 20)]
    applied = mart.apply(*half, *others)
    assert applied.rejected == 2 + 7, "sums stay below 1e35 a customer, and below 1e36 in all"
    refused = mart.rows('SELECT "offset" FROM mart.rejected_invoice ORDER BY 1')
    assert refused == [(1,), (2,), *((n,) for n in range(13, 20))]
    assert mart.rows("SELECT purchased FROM mart.stream_total") == [(Decimal("9.6e35"),)]
    assert mart.apply(cleaned(20, "20", "2025-03-02T10:00:00", "z", "1.00")).invoices == 1, "the stream goes on"


def test_several_culprits_among_thousands(mart):
    many = [cleaned(n, f"{n}", f"2025-03-{n % 28 + 1:02}T10:00:00", f"c{n % 700}", "2.00") for n in range(5000)]
    for n in (0, 1234, 2500, 4999):
        many[n] |= {"purchased": Decimal("9e35")}
    applied = mart.apply(*many)
    assert (applied.invoices, applied.rejected) == (4996, 4)
    assert mart.rows('SELECT "offset" FROM mart.rejected_invoice ORDER BY 1') == [(0,), (1234,), (2500,), (4999,)]
    assert mart.rows("SELECT sum(monetary), sum(frequency) FROM mart.customer") == [(Decimal("9992.00"), 4996)]


def test_of_one_number_the_copy_that_postgresql_takes_counts(mart):
    bad = cleaned(0, "1", "2025-03-01T10:00:00", "a", "9e35", content="other")
    applied = mart.apply(bad, cleaned(1, "1", "2025-03-01T10:00:00", "a", "4.00"))
    assert (applied.invoices, applied.duplicates, applied.rejected) == (1, 0, 1)
    assert mart.customers()[0][3] == Decimal("4.00")


def test_a_mart_that_refuses_everything_quarantines_nothing(mart, fresh_mart):
    owner_says(fresh_mart, "ALTER TABLE mart.invoice ADD COLUMN owned text NOT NULL")
    with pytest.raises(
        StreamingError, match=r'refuses every invoice, a plain one too: PostgreSQL: null value in .*"owned"'
    ):
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"), cleaned(1, "2", "2025-03-01T10:00:00", "a"))
    assert mart.rows("SELECT * FROM mart.rejected_invoice") == []
    owner_says(fresh_mart, "ALTER TABLE mart.invoice DROP COLUMN owned")
    owner_says(fresh_mart, "ALTER TABLE mart.next_offset ADD CHECK (next_offset < 2)")
    with pytest.raises(StreamingError, match="refuses the batch, but none of its records alone"):
        mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"), cleaned(1, "2", "2025-03-01T10:00:00", "a"))
    assert mart.rows("SELECT * FROM mart.rejected_invoice") == mart.rows("SELECT * FROM mart.invoice") == []


AHEAD = "2099-12-31T10:00:00"


def test_an_invoice_ahead_of_the_clock_counts_and_does_not_move_the_as_of_date(mart):
    fast = cleaned(0, "1", AHEAD, "fast", "5.00") | {"kafka_timestamp": datetime(2099, 12, 31, 3, tzinfo=UTC)}
    assert mart.apply(fast).ahead_of_clock == 1
    [(as_of, ahead)] = mart.rows("SELECT as_of_date, invoices_ahead FROM mart.as_of")
    assert (as_of, ahead) == (None, 1)
    assert [c[:4] for c in mart.customers()] == [("fast", 0, 1, Decimal("5.00"))]
    applied = mart.apply(
        cleaned(1, "2", "2025-03-05T10:00:00", "a"),
        cleaned(2, "3", "2025-03-01T10:00:00", "b"),
        cleaned(3, "4", AHEAD, None),
    )
    assert applied.ahead_of_clock == 1
    assert [c[:2] for c in mart.customers()] == [("a", 0), ("b", 4), ("fast", 0)]
    assert mart.rows("SELECT as_of_date, invoices_ahead FROM mart.as_of") == [(date(2025, 3, 5), 2)]
    assert mart.rows("SELECT max(event_time) < '2099-01-01' FROM mart.segment_change") == [(True,)]


def test_an_invoice_ahead_of_the_clock_moves_the_as_of_date_when_its_time_has_come(mart, fresh_mart):
    """Time passes by changing the dates: nobody can wait for them."""
    mart.apply(cleaned(0, "1", AHEAD, "fast"), cleaned(1, "2", "2025-03-01T10:00:00", "a"))
    owner_says(fresh_mart, "UPDATE mart.invoice SET invoice_date = '2025-03-04T10:00:00' WHERE invoice = '1'")
    mart.apply(cleaned(2, "3", "2025-03-02T10:00:00", "a"))
    newest = "SELECT newest_invoice_date, invoices_ahead FROM mart.as_of"
    assert mart.rows(newest) == [(datetime(2025, 3, 4, 10), 0)]
    # A clock that was wrong itself and is set back takes the date back.
    owner_says(fresh_mart, f"UPDATE mart.shop SET newest_invoice_date = '{AHEAD}', clock_limit = '2100-01-01'")
    mart.apply(cleaned(3, "4", "2025-03-02T10:00:00", "a"))
    assert mart.rows(newest) == [(datetime(2025, 3, 4, 10), 0)]


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_a_purchase_of_tomorrow_was_no_day_ago(mart, clock):
    apply_shop_rules(mart.connection, Settings(recency_clock=clock))
    tomorrow = datetime.now(ZoneInfo("Asia/Jakarta")).replace(tzinfo=None) + timedelta(hours=23, minutes=50)
    assert mart.apply(cleaned(0, "1", tomorrow.isoformat(), "a")).ahead_of_clock == 0
    assert [c[:2] for c in mart.customers()] == [("a", 0)]
    [(as_of,)] = mart.rows("SELECT as_of_date - (now() AT TIME ZONE 'Asia/Jakarta')::date FROM mart.as_of")
    assert as_of == (0 if clock == "wall" else (tomorrow.date() - datetime.now(ZoneInfo("Asia/Jakarta")).date()).days)


@pytest.mark.parametrize(("before", "after", "monetary"), [("net", "ignore", "100.00"), ("ignore", "net", "10.00")])
def test_a_batch_goes_by_the_policy_of_the_mart_and_not_of_its_job(fresh_mart, monkeypatch, before, after, monetary):
    """A newer job adopts another policy while an older one's batch stands between its INSERT and the lock."""
    mart = Mart(fresh_mart, policy=before)
    with closing(connect(fresh_mart.writer_dsn)) as newer:

        def while_another_adopts(cursor):
            if cursor.connection is mart.connection:
                monkeypatch.undo()
                apply_shop_rules(newer, Settings(returns_policy=after))
            return lock_scores(cursor)

        monkeypatch.setattr("streaming.apply.lock_scores", while_another_adopts)
        mart.apply(
            cleaned(0, "1", "2025-03-01T10:00:00", "a", "100.00"),
            cleaned(1, "C2", "2025-03-02T10:00:00", "a", "0", "-90.00", counting=0),
        )
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal(monetary))]
    assert check_scores(mart.connection).is_right
    mart.connection.close()


def test_who_adopts_rules_has_taken_over_before(fresh_mart):
    """As ApplyJob.prepare does, in one transaction: an older job's batch is over by then, or it is fenced."""
    mart = Mart(fresh_mart, policy="net")
    with closing(connect(fresh_mart.writer_dsn)) as newer:
        with newer, newer.cursor() as cursor:
            writer = take_over(cursor, TOPIC, "newer")
            adopt_rules(cursor, Settings(returns_policy="ignore"))
        with pytest.raises(FencedError):
            mart.apply(cleaned(0, "1", "2025-03-01T10:00:00", "a"))
        assert writer.epoch == mart.writer.epoch + 1
    mart.connection.close()


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
    apply_shop_rules(mart.connection, Settings(returns_policy="net"))
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal("6.00"))]
    apply_shop_rules(mart.connection, Settings(returns_policy="ignore"))
    assert [(c[0], c[3]) for c in mart.customers()] == [("a", Decimal("10.00"))]
    # The writer deletes no customer: who has a row from then keeps it, and it lowers nothing.
    assert mart.rows("SELECT frequency, monetary FROM mart.customer WHERE customer_id = 'b'") == [(0, 0)]


def test_segment_changes_tell_own_purchases_from_overtaken(mart):
    people = [cleaned(n, f"{n}", f"2025-03-0{n + 1}T10:00:00", f"c{n}", f"{n + 1}.00") for n in range(5)]
    mart.apply(*people)
    assert [(c[0], *c[4:7]) for c in mart.customers()] == [(f"c{n}", n + 1, n + 1, n + 1) for n in range(5)]
    # c0 buys again and becomes the best in all; everyone else falls one quintile.
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
    for table in ("invoice", "customer", "rejected_invoice", "next_offset", "segment_change", "shop"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(fresh_mart.reader_dsn, f"SELECT * FROM mart.{table}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(fresh_mart.writer_dsn, "DELETE FROM mart.invoice")


@dataclass
class Model:
    """What applying each record by itself would make, in plain Python."""

    invoices: dict[str, dict] = field(default_factory=dict)
    spent: Counter = field(default_factory=Counter)
    rejected: dict[int, str] = field(default_factory=dict)

    def apply(self, batch: list[dict], spoiled: set[int]) -> None:
        """In the order in which copies count: by the record's timestamp, then by its place."""
        for row in sorted(batch, key=lambda row: (row["offset"] in spoiled, row["kafka_timestamp"], row["offset"])):
            customer, cents = row["customer_id"], int(row["purchased"].scaleb(2))
            if row["offset"] in spoiled:
                self.rejected[row["offset"]] = "internal_error"
            elif row["invoice"] in self.invoices:
                if self.invoices[row["invoice"]]["content_sha256"] != row["content_sha256"]:
                    self.rejected[row["offset"]] = "conflicting_duplicate"
            elif self.spent[customer] + cents > 10**37 or self.spent.total() + cents >= 10**38:
                self.rejected[row["offset"]] = "internal_error"
            else:
                self.invoices[row["invoice"]] = row
                self.spent[customer] += cents


def test_random_batches_with_records_that_are_refused_make_what_the_records_alone_would(mart):
    random_ = random.Random(15)
    model, offset = Model(), 0
    for _ in range(12):
        batch, spoiled = [], set()
        for _ in range(random_.choice([1, 3, 20, 60])):
            amount = random_.choice(["1.00", "0.01", "250.50", random_.choice(["3e34", "6e34", "9.99e34"])])
            row = cleaned(
                offset,
                f"{random_.randrange(600)}",
                f"2025-{random_.randint(1, 12):02}-{random_.randint(1, 28):02}T10:00:00",
                f"c{random_.randrange(40)}",
                amount,
                content=random_.choice(["same", "same", "other"]) + amount,
            ) | {"kafka_timestamp": AT + timedelta(seconds=random_.randrange(9))}
            if random_.random() < 0.1:
                spoiled.add(offset)
                row["invoice"] = f"spoiled {offset}"  # of a copy it is as true that it is one
            batch.append(row)
            offset += 1
        model.apply(batch, spoiled)
        kinds = {n: random_.choice(list(CULPRITS)) for n in spoiled}
        applied = mart.apply(*[CULPRITS[kinds[r["offset"]]](r) if r["offset"] in spoiled else r for r in batch])
        assert applied.records == len(batch) == applied.invoices + applied.duplicates + applied.rejected
    assert {"internal_error", "conflicting_duplicate"} == set(model.rejected.values())
    assert dict(mart.rows('SELECT "offset", reason FROM mart.rejected_invoice')) == model.rejected
    expected = {(row["invoice"], row["offset"], row["purchased"]) for row in model.invoices.values()}
    assert set(mart.rows("SELECT invoice, kafka_offset, purchased FROM mart.invoice")) == expected
    spent = {customer: cents for customer, cents in model.spent.items() if cents}
    assert dict(mart.rows("SELECT customer_id, monetary * 100 FROM mart.customer")) == spent
    assert mart.rows("SELECT invoices, purchased * 100 FROM mart.stream_total") == [
        (len(expected), sum(spent.values()))
    ]
    assert check_scores(mart.connection).is_right
