"""Records that the producer never writes, through Kafka, Spark, PostgreSQL and the lake: none stops the stream."""

from __future__ import annotations

import json
import threading

import pytest
from kafka import KafkaProducer

from operations.verify import verify
from streaming.main import RunOptions, stream
from tests.builders.mart_rows import rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import NOW_MS, event
from torture.pipeline import take_any_timestamp

pytestmark = [pytest.mark.stack, pytest.mark.spark]


def send(pipeline: Pipeline, records: list[tuple[dict | bytes, int]]) -> None:
    """(event or bytes, record timestamp) each, onto one partition."""
    producer = KafkaProducer(bootstrap_servers=pipeline.bootstrap_servers, acks="all")
    try:
        sent = [
            producer.send(
                pipeline.topic,
                key=b"foreign",
                value=value if isinstance(value, bytes) else json.dumps(value).encode(),
                timestamp_ms=timestamp_ms,
            )
            for value, timestamp_ms in records
        ]
        for future in sent:
            future.get(timeout=30)
    finally:
        producer.close()


def run(pipeline: Pipeline, spark) -> None:
    stream(spark, pipeline.settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


def test_times_amounts_and_nonsense_are_applied_or_quarantined_and_verified(pipeline: Pipeline, spark):
    """The first record ended both queries, at each start again."""
    records = [
        event("1", "2024-02-28T10:00:00+07:00", "ann"),
        event("1", "2024-02-28T03:00:00Z", "ann"),
        event("1", "2024-02-28T10:00:00", "ann"),
        event("2", "2024-02-28T10:00:00.123456", "ann"),
        event("3", "2024-02-28T10:00:00.1234567", "ann"),
        event("4", "2024-02-28", "bob", ("A1", 2**31 - 1, "9999999999999999.99")),
        event("5", "2024-02-28", "bob", ("A1", 1, "1000000000000000")),
        b'{"version": ' + b"[" * 900 + b"]" * 900 + b"}",
    ]
    send(pipeline, [(record, NOW_MS) for record in records])
    run(pipeline, spark)
    assert rows(pipeline.mart.owner_dsn, "SELECT invoice, invoice_date::text FROM mart.invoice ORDER BY invoice") == [
        ("1", "2024-02-28 10:00:00"),
        ("2", "2024-02-28 10:00:00.123456"),
        ("5", "2024-02-28 10:00:00"),
    ]
    refused = 'SELECT "offset", reason FROM mart.rejected_invoice ORDER BY "offset"'
    assert rows(pipeline.mart.owner_dsn, refused) == [
        (4, "bad_date"),
        (5, "amount_out_of_range"),
        (7, "unknown_version"),
    ]
    assert rows(pipeline.mart.owner_dsn, "SELECT sum(duplicates)::int FROM mart.batch") == [(2,)]
    assert verify(pipeline.settings, wait_seconds=0).equal


def test_record_timestamps_of_wrong_clocks_and_units_do_not_stop_the_stream(pipeline: Pipeline, spark):
    """Microseconds sent as milliseconds: PostgreSQL refused the year 58,000, at each start again."""
    take_any_timestamp(pipeline.bootstrap_servers, pipeline.topic)
    timestamps = [NOW_MS, NOW_MS * 1000, -1, 4_102_444_800_000, NOW_MS]
    send(pipeline, [(event(str(at), "2024-02-28", "ann"), timestamp) for at, timestamp in enumerate(timestamps)])
    run(pipeline, spark)
    assert rows(pipeline.mart.owner_dsn, "SELECT invoice FROM mart.invoice ORDER BY invoice") == [("0",), ("4",)]
    refused = (
        "SELECT \"offset\", reason, (kafka_timestamp AT TIME ZONE 'UTC')::text, detail "
        'FROM mart.rejected_invoice ORDER BY "offset"'
    )
    found = rows(pipeline.mart.owner_dsn, refused)
    assert [(offset, reason, stored) for offset, reason, stored, _ in found] == [
        (1, "bad_timestamp", "2099-12-31 23:59:59.999999"),
        (2, "bad_timestamp", "1970-01-01 00:00:00"),
        (3, "bad_timestamp", "2099-12-31 23:59:59.999999"),
    ]
    assert [str(NOW_MS * 1000) in found[0][3], "is none" in found[1][3], "4102444800000 ms" in found[2][3]] == [
        True
    ] * 3
    assert verify(pipeline.settings, wait_seconds=0).equal


def test_record_timestamps_in_nanoseconds_do_not_stop_the_stream(pipeline: Pipeline, spark):
    """Spark's own source fails at such a record, before any of ours has seen it: both queries, at each start again."""
    take_any_timestamp(pipeline.bootstrap_servers, pipeline.topic)
    ann, other = event("0", "2024-02-28", "ann"), event("0", "2024-02-28", "ann", ("B2", 1, "5"))
    records = [
        (ann, NOW_MS),
        (event("1", "2024-02-28", "ann"), NOW_MS * 1_000_000),
        (event("2", "2024-02-28", "bob"), NOW_MS * 1000),
        (other, NOW_MS),  # of the same invoice other content: its bytes are read once more
        (event("3", "2024-02-28", "bob"), 2**63 - 1),
        (event("4", "2024-02-28", "bob"), NOW_MS),
    ]
    send(pipeline, records)
    run(pipeline, spark)
    assert rows(pipeline.mart.owner_dsn, "SELECT invoice FROM mart.invoice ORDER BY invoice") == [("0",), ("4",)]
    refused = 'SELECT "offset", reason, detail, raw FROM mart.rejected_invoice ORDER BY "offset"'
    found = rows(pipeline.mart.owner_dsn, refused)
    assert [(offset, reason) for offset, reason, *_ in found] == [
        (1, "bad_timestamp"),
        (2, "bad_timestamp"),
        (3, "conflicting_duplicate"),
        (4, "bad_timestamp"),
    ]
    assert [json.loads(bytes(raw))["lines"] for *_, raw in found] == [records[at][0]["lines"] for at in (1, 2, 3, 4)]
    assert "9223372036854775 ms or later" in found[0][2]
    assert verify(pipeline.settings, wait_seconds=0).equal
    send(pipeline, [(event("5", "2024-02-28", "bob"), NOW_MS)])
    run(pipeline, spark)
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*)::int FROM mart.invoice") == [(3,)]
    assert verify(pipeline.settings, wait_seconds=0).equal
