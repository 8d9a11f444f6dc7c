"""Read the topic with Spark: as a stream, a range of offsets again, and what a micro-batch covers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from topic.describe import READ_COMMITTED, Topic
from topic.offsets import Covered


def read_topic(
    spark: SparkSession,
    bootstrap_servers: str,
    topic: Topic,
    start: Mapping[int, int],
    max_records: int,
    patience_seconds: float | None = None,
    security: Mapping[str, str] | None = None,
    fetch_wait_ms: int | None = None,
    group: str | None = None,
) -> DataFrame:
    """The topic as a stream of records (key, value, topic, partition, offset, timestamp), from the offsets `start`.

    At most `max_records` offsets per micro-batch; with `patience_seconds`, fewer only after waiting that long.
    `security` is Settings.spark_kafka_security(). `fetch_wait_ms`: how long the broker may hold a fetch that finds
    nothing (Kafka's default is 500). `group`: a name unique to the query, also passed to read_range. Reads committed
    records only. The stream fails rather than skip records that are gone.
    """
    stream = (
        spark.readStream.format("kafka")
        .options(**_reading(bootstrap_servers, security, fetch_wait_ms, group))
        .option("subscribe", topic.name)
        .option("startingOffsets", json.dumps({topic.name: {str(p): offset for p, offset in start.items()}}))
        .option("maxOffsetsPerTrigger", str(max_records))
        .option("fetchOffset.numRetries", "2")
    )
    if patience_seconds is not None:
        stream = stream.option("minOffsetsPerTrigger", str(max_records))
        stream = stream.option("maxTriggerDelay", f"{round(patience_seconds * 1000)}ms")
    return stream.load()


def read_range(
    spark: SparkSession,
    bootstrap_servers: str,
    topic: Topic,
    covered: Covered,
    security: Mapping[str, str] | None = None,
    fetch_wait_ms: int | None = None,
    group: str | None = None,
) -> DataFrame:
    """The same records of a range of offsets, once. Takes what read_topic was given."""
    ranges = {p: (first, end) for p, (first, end) in covered.items() if first < end}
    first, end = ({topic.name: {str(p): bounds[side] for p, bounds in ranges.items()}} for side in (0, 1))
    return (
        spark.read.format("kafka")
        .options(**_reading(bootstrap_servers, security, fetch_wait_ms, group))
        .option("assign", json.dumps({topic.name: sorted(ranges)}))
        .option("startingOffsets", json.dumps(first))
        .option("endingOffsets", json.dumps(end))
        .load()
    )


def _reading(
    bootstrap_servers: str, security: Mapping[str, str] | None, fetch_wait_ms: int | None, group: str | None
) -> dict[str, str]:
    return {
        # Nobody joins a group, but Spark keeps consumers and what they have fetched by its name: a range that begins
        # where the last one ended is read on from there. All else here must be the same, too, for one name.
        **({"kafka.group.id": group} if group else {}),
        **({"kafka.fetch.max.wait.ms": str(fetch_wait_ms)} if fetch_wait_ms is not None else {}),
        "kafka.bootstrap.servers": bootstrap_servers,
        **(security or {}),
        "kafka.isolation.level": READ_COMMITTED,
        "failOnDataLoss": "true",
        # This many are unpacked at once: a fetch of a megabyte may hold hundreds of records of a megabyte, compressed.
        "kafka.max.poll.records": "25",
        # Give up on a silent broker within about half a minute, so that the job can say so and retry.
        "kafka.default.api.timeout.ms": "10000",
        "kafka.request.timeout.ms": "5000",
        "kafka.reconnect.backoff.max.ms": "1000",
    }


def covered_now(query: StreamingQuery) -> dict[int, tuple[int, int]]:
    """What the query's current micro-batch covers, as Spark planned it (see Covered), without partitions of which it
    covers nothing.

    Called within its foreachBatch. Spark has it for every batch, including the first one, one that a restart repeats
    from the checkpoint's log, and with `availableNow`, but under no public name before the batch has ended. A partition
    that is new in this batch begins at 0: Spark fails if its first records are gone.
    """
    # MicroBatchExecution.runBatch: the context's `newData` is source -> OffsetHolder(start, Some(end)), set before the
    # sink is called. Py4J's names are those of the classes' accessors, which are public in Java.
    planned = query._jsq.streamingQuery().getLatestExecutionContext().newData().values().iterator()
    covered: dict[int, tuple[int, int]] = {}
    while planned.hasNext():
        holder = planned.next()
        starts, ends = _by_partition(holder.start().json()), _by_partition(holder.end().get().json())
        covered |= {partition: (starts.get(partition, 0), end) for partition, end in ends.items()}
    return {partition: (first, end) for partition, (first, end) in covered.items() if first < end}


def _by_partition(offsets: str) -> dict[int, int]:
    """One topic's offsets, from Spark's {topic: {partition: offset}}."""
    return {
        int(partition): offset for of_topic in json.loads(offsets).values() for partition, offset in of_topic.items()
    }
