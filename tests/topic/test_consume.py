"""Records read without Spark, from a real broker."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from conf.errors import UnavailableError
from conf.kafka import Brokers
from tests.builders.records import NOW_MS
from topic.consume import consume_range
from torture.pipeline import take_any_timestamp

pytestmark = pytest.mark.stack


@pytest.fixture
def put(pipeline):
    """Put (partition, value, timestamp) records on the topic, in one transaction, which is committed or aborted."""
    producer = KafkaProducer(bootstrap_servers=pipeline.bootstrap_servers, transactional_id=pipeline.topic)
    producer.init_transactions()

    def put(*records, commit=True):
        producer.begin_transaction()
        for partition, value, timestamp in records:
            producer.send(pipeline.topic, value, key=b"k", partition=partition, timestamp_ms=timestamp)
        producer.flush()
        (producer.commit_transaction if commit else producer.abort_transaction)()

    yield put
    producer.close()


def consume(line, covered, most_bytes=1_000_000):
    table, whole = consume_range(Brokers(line.bootstrap_servers, 10), line.topic, covered, most_bytes)
    return [
        tuple(row.values()) for row in table.set_column(3, "timestamp", table["timestamp"].cast("int64")).to_pylist()
    ], whole


def test_a_range_is_read_without_what_was_taken_back_and_every_timestamp_has_a_nearest(pipeline, put):
    take_any_timestamp(pipeline.bootstrap_servers, pipeline.topic)
    put((0, b"a", NOW_MS), (0, b"b", NOW_MS * 1_000_000), (1, None, 2**63 - 1))  # and a mark after each partition's
    put((0, b"taken back", NOW_MS), commit=False)
    put((0, b"c", 5))
    farthest = 9_223_372_036_854_775_000
    rows, whole = consume(pipeline, {0: (0, 7), 1: (0, 2)})
    assert sorted(rows, key=lambda row: row[1:3]) == [
        (b"a", 0, 0, NOW_MS * 1000),
        (b"b", 0, 1, farthest),
        (b"c", 0, 5, 5000),
        (None, 1, 0, farthest),
    ]
    assert whole
    assert consume(pipeline, {0: (1, 5)}) == ([(b"b", 0, 1, farthest)], True)  # ends within what was taken back
    assert consume(pipeline, {0: (2, 5)}) == ([], True)


def test_it_stops_when_it_has_read_enough(pipeline, put, monkeypatch):
    monkeypatch.setattr("topic.consume._POLL_RECORDS", 2)
    put(*((0, b"x" * 100, NOW_MS) for _ in range(6)))
    rows, whole = consume(pipeline, {0: (0, 7)}, most_bytes=300)
    assert [row[2] for row in rows] == [0, 1, 2, 3]
    assert not whole


def test_offsets_that_are_gone_or_not_there_are_no_silent_end(pipeline, put):
    put((0, b"a", NOW_MS))
    with pytest.raises(UnavailableError, match="OffsetOutOfRange"):
        consume(pipeline, {0: (9, 12)})
    with pytest.raises(UnavailableError, match="sent nothing of topic"):
        consume_range(Brokers(pipeline.bootstrap_servers, 1), pipeline.topic, {0: (0, 12)}, 1000)
