"""Kafka as others run it: transactions, new partitions, topics that change while the job runs, large records."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

import stack
from conf.errors import GapError, TopicChangedError
from conf.kafka import Brokers
from lake.table import open_lake, read_next_offsets
from mart.status import observe
from operations.verify import verify
from streaming import job as job_module
from streaming import slices as slices_module
from streaming.apply_job import ApplyJob
from streaming.land_job import LandJob
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.job import in_thread
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from tests.builders.waiting import until
from topic.describe import describe_topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]

CATCH_UP = RunOptions(available_now=True)


@pytest.fixture
def catch_up(spark, pipeline: Pipeline):
    """Apply and land all that is committed on the topic now; returns the number of batches of each query."""
    return lambda **changes: stream(spark, pipeline.settings.model_copy(update=changes), CATCH_UP, threading.Event())


def next_offsets(pipeline: Pipeline) -> tuple[dict[int, int], dict[int, int]]:
    """The mart's and the lake's."""
    topic = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic)
    mart = dict(rows(pipeline.mart.owner_dsn, 'SELECT "partition", next_offset FROM mart.next_offset'))
    return mart, read_next_offsets(open_lake(pipeline.settings.lake), topic, topic.end_offsets)


def invoices(pipeline: Pipeline) -> int:
    [(count,)] = rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice")
    return count


@contextmanager
def transactions(pipeline: Pipeline) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=pipeline.bootstrap_servers,
        transactional_id=pipeline.topic,
        enable_idempotence=True,
        acks="all",
    )
    try:
        producer.init_transactions()
        yield producer
    finally:
        producer.close(timeout=5)


def produce(producer: KafkaProducer, pipeline: Pipeline, events: list[dict]) -> None:
    for key, value in encode(events):
        producer.send(pipeline.topic, key=key, value=value)
    producer.flush()


def test_what_is_committed_is_applied_once_and_a_transactions_marks_lose_nothing(pipeline, catch_up):
    events = random_events(140, customers=30, seed=40)
    with transactions(pipeline) as producer:
        for number, part in enumerate((events[:40], events[40:60], events[60:100])):
            producer.begin_transaction()
            produce(producer, pipeline, part)
            producer.abort_transaction() if number == 1 else producer.commit_transaction()
        kept = events[:40] + events[60:100]
        ends = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets
        assert sum(ends.values()) > 100  # the marks have offsets, too
        catch_up(max_invoices_per_batch=15)
        assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(kept))
        assert lake_rows.counts(pipeline.settings.lake) == (80, 80)
        assert next_offsets(pipeline) == (ends, ends)
        stale = pipeline.settings.model_copy(update={"alert_stale_seconds": 0})
        assert (observe(stale).lag, observe(stale).waiting) == (0, 0)
        assert catch_up() == {"apply": 0, "land": 0}

        producer.begin_transaction()  # open: neither it nor what comes after it in a partition is there yet
        produce(producer, pipeline, events[100:120])
        assert (observe(stale).lag, observe(stale).waiting) == (0, 0)
        assert catch_up() == {"apply": 0, "land": 0}
        producer.abort_transaction()  # a batch without a record: the next offsets move, and nothing else does
        [(written,)] = rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.batch")
        assert catch_up() == {"apply": 1, "land": 1}
        ends = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets
        assert next_offsets(pipeline) == (ends, ends)
        assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.batch") == [(written,)]
        assert catch_up() == {"apply": 0, "land": 0}
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events[120:]))
    catch_up()
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(kept + events[120:]))
    assert verify(pipeline.settings, wait_seconds=5).equal


def test_a_partition_that_is_added_while_the_job_runs_is_read_from_its_first_record(spark, pipeline):
    send(pipeline.bootstrap_servers, pipeline.topic, encode([event(f"{n}", "2025-03-01", f"c{n}") for n in range(10)]))
    with in_thread(spark, pipeline) as (job, stopping):
        until(lambda: invoices(pipeline) == 10 or job.done())
        admin = KafkaAdminClient(bootstrap_servers=pipeline.bootstrap_servers)
        admin.create_partitions({pipeline.topic: 3})
        admin.close()
        producer = KafkaProducer(bootstrap_servers=pipeline.bootstrap_servers)
        for number in range(10, 15):
            value = json.dumps(event(f"{number}", "2025-03-02", "c1")).encode()
            producer.send(pipeline.topic, value=value, partition=2).get(timeout=30)
        until(lambda: invoices(pipeline) == 15 or job.done())
        send(
            pipeline.bootstrap_servers,
            pipeline.topic,
            encode([event(f"{n}", "2025-03-03", f"c{n}") for n in range(20, 25)]),
        )
        until(lambda: invoices(pipeline) == 20 or job.done())
        producer.close(timeout=5)
        ends = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets
        assert ends[2] >= 5
        until(lambda: next_offsets(pipeline) == (ends, ends) or job.done())
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
    spark, pipeline, gate, only, again
):
    events = random_events(50, customers=10, seed=41)
    send(pipeline.bootstrap_servers, pipeline.topic, [(b"one", value) for _, value in encode(events[:15])])
    with in_thread(spark, pipeline, only) as (job, _):
        assert gate.reached.wait(60)
        stack.delete_topic(pipeline.bootstrap_servers, pipeline.topic)
        until(lambda: not _exists(pipeline))
        stack.ensure_topic(pipeline.bootstrap_servers, pipeline.topic, 2)
        send(
            pipeline.bootstrap_servers,
            pipeline.topic,
            [(b"one", value) for _, value in encode(events[15 : 15 + again])],
        )
        gate.open.set()
        with pytest.raises(TopicChangedError, match="was re-created"):
            job.result(timeout=60)
    if only == "apply":
        assert invoices(pipeline) == 15
    else:
        assert lake_rows.counts(pipeline.settings.lake) == (15, 15)


def _exists(pipeline: Pipeline) -> bool:
    admin = KafkaAdminClient(bootstrap_servers=pipeline.bootstrap_servers)
    try:
        return pipeline.topic in admin.list_topics()
    finally:
        admin.close()


def test_records_that_are_deleted_while_the_job_runs_are_a_clear_error(spark, pipeline, gate):
    records = [(b"one", value) for _, value in encode(random_events(40, customers=10, seed=42))]
    send(pipeline.bootstrap_servers, pipeline.topic, records[:10])
    [partition] = [
        p
        for p, end in describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets.items()
        if end
    ]
    with in_thread(spark, pipeline, "apply") as (job, _):
        assert gate.reached.wait(60)
        send(pipeline.bootstrap_servers, pipeline.topic, records[10:])
        admin = KafkaAdminClient(bootstrap_servers=pipeline.bootstrap_servers)
        admin.delete_records({TopicPartition(pipeline.topic, partition): 17})
        admin.close()
        gate.open.set()
        with pytest.raises(GapError, match=rf"partition {partition}: offsets 10 to 16 \(7 records\) were deleted"):
            job.result(timeout=60)


def test_a_micro_batch_of_large_records_is_taken_slice_by_slice(spark, pipeline, catch_up, monkeypatch):
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
    send(
        pipeline.bootstrap_servers,
        pipeline.topic,
        [*encode(events[:30]), *wrong, *encode(events[30:]), *encode(events[:2])],
    )
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "50000")
    try:
        assert catch_up() == {"apply": 1, "land": 1}
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(8 * 1024**2))
    assert len(seen) > 6
    assert sum(seen) == 2 * 67
    assert max(seen) < 67
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    quarantined = rows(pipeline.mart.owner_dsn, "SELECT reason, length(raw) FROM mart.rejected_invoice ORDER BY 2")
    assert quarantined == [("not_json", size) for size in (20_000, 20_000, 30_000, 40_000, 300_000)]
    assert lake_rows.counts(pipeline.settings.lake) == (62, 60)
    ends = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets
    assert next_offsets(pipeline) == (ends, ends)
    assert rows(pipeline.mart.owner_dsn, "SELECT sum(records), sum(duplicates), sum(rejected) FROM mart.batch") == [
        (67, 2, 5)
    ]
