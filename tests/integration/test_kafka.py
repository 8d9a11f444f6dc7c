"""Kafka as others run it: transactions, new partitions, topics that change while the job runs, large records."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

import stack
from conf.errors import GapError, TopicChangedError
from conf.kafka import Brokers
from lake.table import open_lake, read_positions
from mart.status import observe
from operations.verify import verify
from streaming import job as job_module
from streaming import slices as slices_module
from streaming.apply_job import ApplyJob
from streaming.land_job import LandJob
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Line
from tests.builders.records import encode, event, random_events, send
from tests.builders.waiting import until
from topic.describe import describe_topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]

CATCH_UP = RunOptions(available_now=True)


@pytest.fixture
def catch_up(spark, line: Line):
    """Apply and land all that is committed on the topic now; returns the number of batches of each query."""
    return lambda **changes: stream(spark, line.settings.model_copy(update=changes), CATCH_UP, threading.Event())


def positions(line: Line) -> tuple[dict[int, int], dict[int, int]]:
    """The mart's and the lake's."""
    topic = describe_topic(Brokers(line.bootstrap_servers, 10), line.topic)
    mart = dict(rows(line.mart.owner_dsn, 'SELECT "partition", next_offset FROM mart.stream_position'))
    return mart, read_positions(open_lake(line.settings.lake), topic, topic.end_offsets)


def invoices(line: Line) -> int:
    [(count,)] = rows(line.mart.owner_dsn, "SELECT count(*) FROM mart.invoice")
    return count


@contextmanager
def transactions(line: Line) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=line.bootstrap_servers, transactional_id=line.topic, enable_idempotence=True, acks="all"
    )
    try:
        producer.init_transactions()
        yield producer
    finally:
        producer.close(timeout=5)


def produce(producer: KafkaProducer, line: Line, events: list[dict]) -> None:
    for key, value in encode(events):
        producer.send(line.topic, key=key, value=value)
    producer.flush()


def test_what_is_committed_is_applied_once_and_a_transactions_marks_lose_nothing(line, catch_up):
    events = random_events(140, customers=30, seed=40)
    with transactions(line) as producer:
        for number, part in enumerate((events[:40], events[40:60], events[60:100])):
            producer.begin_transaction()
            produce(producer, line, part)
            producer.abort_transaction() if number == 1 else producer.commit_transaction()
        kept = events[:40] + events[60:100]
        ends = describe_topic(Brokers(line.bootstrap_servers, 10), line.topic).end_offsets
        assert sum(ends.values()) > 100  # the marks have offsets, too
        catch_up(max_invoices_per_batch=15)
        assert_mart_equals(line.mart.owner_dsn, expected_customers(kept))
        assert lake_rows.counts(line.settings.lake) == (80, 80)
        assert positions(line) == (ends, ends)
        stale = line.settings.model_copy(update={"alert_stale_seconds": 0})
        assert (observe(stale).lag, observe(stale).waiting) == (0, 0)
        assert catch_up() == {"apply": 0, "land": 0}

        producer.begin_transaction()  # open: neither it nor what comes after it in a partition is there yet
        produce(producer, line, events[100:120])
        assert (observe(stale).lag, observe(stale).waiting) == (0, 0)
        assert catch_up() == {"apply": 0, "land": 0}
        producer.abort_transaction()  # a batch without a record: the positions move, and nothing else does
        [(written,)] = rows(line.mart.owner_dsn, "SELECT count(*) FROM mart.batch")
        assert catch_up() == {"apply": 1, "land": 1}
        ends = describe_topic(Brokers(line.bootstrap_servers, 10), line.topic).end_offsets
        assert positions(line) == (ends, ends)
        assert rows(line.mart.owner_dsn, "SELECT count(*) FROM mart.batch") == [(written,)]
        assert catch_up() == {"apply": 0, "land": 0}
    send(line.bootstrap_servers, line.topic, encode(events[120:]))
    catch_up()
    assert_mart_equals(line.mart.owner_dsn, expected_customers(kept + events[120:]))
    assert verify(line.settings, wait_seconds=5).equal


@contextmanager
def running(spark, line: Line, only: str | None = None, **changes) -> Iterator[tuple[Future, threading.Event]]:
    """The job in a thread; the future has what became of it."""
    stopping = threading.Event()
    settings = line.settings.model_copy(update={"landing_trigger_seconds": 1, **changes})
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(stream, spark, settings, RunOptions(only=only), stopping)
        try:
            yield job, stopping
        finally:
            stopping.set()


def test_a_partition_that_is_added_while_the_job_runs_is_read_from_its_first_record(spark, line):
    send(line.bootstrap_servers, line.topic, encode([event(f"{n}", "2025-03-01", f"c{n}") for n in range(10)]))
    with running(spark, line) as (job, stopping):
        until(lambda: invoices(line) == 10 or job.done())
        admin = KafkaAdminClient(bootstrap_servers=line.bootstrap_servers)
        admin.create_partitions({line.topic: 3})
        admin.close()
        producer = KafkaProducer(bootstrap_servers=line.bootstrap_servers)
        for number in range(10, 15):
            value = json.dumps(event(f"{number}", "2025-03-02", "c1")).encode()
            producer.send(line.topic, value=value, partition=2).get(timeout=30)
        until(lambda: invoices(line) == 15 or job.done())
        send(line.bootstrap_servers, line.topic, encode([event(f"{n}", "2025-03-03", f"c{n}") for n in range(20, 25)]))
        until(lambda: invoices(line) == 20 or job.done())
        producer.close(timeout=5)
        ends = describe_topic(Brokers(line.bootstrap_servers, 10), line.topic).end_offsets
        assert ends[2] >= 5
        until(lambda: positions(line) == (ends, ends) or job.done())
        stopping.set()
        job.result(timeout=60)


class Gate:
    """Holds the query between two batches."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, _job) -> None:
        self.reached.set()
        assert self.open.wait(60)


@pytest.fixture
def gate(monkeypatch) -> Gate:
    gate = Gate()
    for job in (ApplyJob, LandJob):
        monkeypatch.setattr(job, "look_after", lambda self: gate(self))
    return gate


@pytest.mark.parametrize("only", ["apply", "land"])
@pytest.mark.parametrize("again", [4, 30], ids=["shorter", "longer"])
def test_a_topic_created_anew_while_the_job_runs_stops_it_before_anything_of_it_is_taken(
    spark, line, gate, only, again
):
    events = random_events(50, customers=10, seed=41)
    send(line.bootstrap_servers, line.topic, [(b"one", value) for _, value in encode(events[:15])])
    with running(spark, line, only) as (job, _):
        assert gate.reached.wait(60)
        stack.delete_topic(line.bootstrap_servers, line.topic)
        until(lambda: not _exists(line))
        stack.ensure_topic(line.bootstrap_servers, line.topic, 2)
        send(line.bootstrap_servers, line.topic, [(b"one", value) for _, value in encode(events[15 : 15 + again])])
        gate.open.set()
        with pytest.raises(TopicChangedError, match="was re-created"):
            job.result(timeout=60)
    if only == "apply":
        assert invoices(line) == 15
    else:
        assert lake_rows.counts(line.settings.lake) == (15, 15)


def _exists(line: Line) -> bool:
    admin = KafkaAdminClient(bootstrap_servers=line.bootstrap_servers)
    try:
        return line.topic in admin.list_topics()
    finally:
        admin.close()


def test_records_that_are_deleted_while_the_job_runs_are_a_clear_error(spark, line, gate):
    records = [(b"one", value) for _, value in encode(random_events(40, customers=10, seed=42))]
    send(line.bootstrap_servers, line.topic, records[:10])
    [partition] = [
        p for p, end in describe_topic(Brokers(line.bootstrap_servers, 10), line.topic).end_offsets.items() if end
    ]
    with running(spark, line, "apply") as (job, _):
        assert gate.reached.wait(60)
        send(line.bootstrap_servers, line.topic, records[10:])
        admin = KafkaAdminClient(bootstrap_servers=line.bootstrap_servers)
        admin.delete_records({TopicPartition(line.topic, partition): 17})
        admin.close()
        gate.open.set()
        with pytest.raises(GapError, match=rf"partition {partition}: offsets 10 to 16 \(7 records\) were deleted"):
            job.result(timeout=60)


def test_a_micro_batch_of_large_records_is_taken_slice_by_slice(spark, line, catch_up, monkeypatch):
    """Valid ones and wrong ones, in both queries, and one that is larger than a slice by itself."""
    monkeypatch.setattr(job_module, "MOST_BYTES", 200_000)
    seen = []
    whole = slices_module.slices

    def slices(*arguments):
        for part in whole(*arguments):
            seen.append(part.rows.num_rows)
            yield part

    monkeypatch.setattr(job_module, "slices", slices)
    events = random_events(60, customers=20, seed=43)
    for one in events:
        one["lines"] += [{**line_, "price": "0"} for line_ in one["lines"][:1]] * 200
    wrong = [(b"x", b"{" * size) for size in (20_000, 30_000, 300_000, 20_000, 40_000)]
    send(line.bootstrap_servers, line.topic, [*encode(events[:30]), *wrong, *encode(events[30:]), *encode(events[:2])])
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "50000")
    try:
        assert catch_up() == {"apply": 1, "land": 1}
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(8 * 1024**2))
    assert len(seen) > 6
    assert sum(seen) == 2 * 67
    assert max(seen) < 67
    assert_mart_equals(line.mart.owner_dsn, expected_customers(events))
    quarantined = rows(line.mart.owner_dsn, "SELECT reason, length(raw) FROM mart.rejected_invoice ORDER BY 2")
    assert quarantined == [("not_json", size) for size in (20_000, 20_000, 30_000, 40_000, 300_000)]
    assert lake_rows.counts(line.settings.lake) == (62, 60)
    ends = describe_topic(Brokers(line.bootstrap_servers, 10), line.topic).end_offsets
    assert positions(line) == (ends, ends)
    assert rows(line.mart.owner_dsn, "SELECT sum(records), sum(duplicates), sum(rejected) FROM mart.batch") == [
        (67, 2, 5)
    ]
