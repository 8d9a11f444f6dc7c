"""Consume: records of a range of offsets without Spark, for those that its source cannot turn into rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from conf.errors import UnavailableError
from topic.describe import READ_COMMITTED
from topic.offsets import Covered
from topic.record import FARTHEST_MILLISECONDS, RECORD_SCHEMA

_POLL_MS = 500
_POLL_RECORDS = 500


def consume_range(
    bootstrap_servers: str,
    topic_name: str,
    covered: Covered,
    most_bytes: int,
    patience_seconds: float,
    security: Mapping[str, Any] | None = None,
) -> tuple[pa.Table, bool]:
    """The committed records of a range of offsets, as topic.record.RECORD_SCHEMA, each partition's in order, and if
    they are all of them: it stops after values of `most_bytes`.

    A timestamp that microseconds cannot hold is moved to the nearest that they can. `security` is
    Settings.kafka_security(). Raises UnavailableError if the broker sends nothing for so many seconds.
    """
    ends = {TopicPartition(topic_name, partition): end for partition, (_, end) in covered.items()}
    found: list[pa.RecordBatch] = []
    weight = 0
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            client_id="range",
            enable_auto_commit=False,
            isolation_level=READ_COMMITTED,
            auto_offset_reset="none",  # an offset that is gone is an error, as it is for Spark
            bootstrap_timeout_ms=round(patience_seconds * 1000),
            **(security or {}),
        )
        try:
            consumer.assign(list(ends))
            for partition in ends:
                consumer.seek(partition, covered[partition.partition][0])
            reached = {partition: covered[partition.partition][0] for partition in ends}
            progress_at = time.monotonic()
            while any(reached[partition] < end for partition, end in ends.items()):
                if weight >= most_bytes:
                    return pa.Table.from_batches(found, RECORD_SCHEMA), False
                polled = consumer.poll(_POLL_MS, max_records=_POLL_RECORDS)
                records = [r for partition, some in polled.items() for r in some if r.offset < ends[partition]]
                if records:
                    found.append(_rows(records))
                    weight += found[-1].column("value").nbytes
                # Where a transaction ends there is no record, only a position after it.
                now_at = {partition: consumer.position(partition) for partition in ends}
                if now_at != reached:
                    reached, progress_at = now_at, time.monotonic()
                elif time.monotonic() - progress_at > patience_seconds:
                    raise UnavailableError(
                        f"Kafka at {bootstrap_servers} sent nothing of topic {topic_name!r} for {patience_seconds:g} s"
                    )
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise UnavailableError(
            f"Kafka at {bootstrap_servers} is unavailable: {type(error).__name__} {error}"
        ) from error
    return pa.Table.from_batches(found, RECORD_SCHEMA), True


def _rows(records: Iterable[ConsumerRecord]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {
                "value": None if record.value is None else bytes(record.value),
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": _microseconds(record.timestamp),
            }
            for record in records
        ],
        pa.schema([*(field for field in RECORD_SCHEMA if field.name != "timestamp"), ("timestamp", pa.int64())]),
    ).cast(RECORD_SCHEMA)


def _microseconds(milliseconds: int | None) -> int:
    if milliseconds is None:  # kafka-python's word for Kafka's -1
        return -1000
    return 1000 * min(max(milliseconds, -FARTHEST_MILLISECONDS), FARTHEST_MILLISECONDS)
