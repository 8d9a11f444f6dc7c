"""Consume: read a range of offsets without Spark, for records that its source cannot turn into rows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing

import pyarrow as pa
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from conf.errors import UnavailableError
from conf.kafka import Brokers
from topic.describe import READ_COMMITTED
from topic.offsets import Covered
from topic.record import FARTHEST_MILLISECONDS, RECORD_SCHEMA

_POLL_MS = 500
_POLL_RECORDS = 500


def consume_range(brokers: Brokers, topic_name: str, covered: Covered, most_bytes: int) -> tuple[pa.Table, bool]:
    """The committed records of a range of offsets, as topic.record.RECORD_SCHEMA, each partition's in order, and
    whether they are all of them: it stops after `most_bytes` of values.

    A timestamp that microseconds cannot hold is moved to the nearest one that they can. Raises UnavailableError if the
    brokers send nothing for as long as the timeout.
    """
    ends = {TopicPartition(topic_name, partition): end for partition, (_, end) in covered.items()}
    found: list[pa.RecordBatch] = []
    weight = 0
    # An offset that is gone is an error, as in Spark.
    options = {"client_id": "range", "isolation_level": READ_COMMITTED, "auto_offset_reset": "none"}
    with brokers.answering(), closing(brokers.consumer(**options)) as consumer:
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
            # At a transaction's end there is no record, only an offset after it.
            now_at = {partition: consumer.position(partition) for partition in ends}
            if now_at != reached:
                reached, progress_at = now_at, time.monotonic()
            elif time.monotonic() - progress_at > brokers.timeout_seconds:
                raise UnavailableError(
                    f"Kafka at {brokers.servers} sent nothing of topic {topic_name!r} for {brokers.timeout_seconds:g} s"
                )
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
