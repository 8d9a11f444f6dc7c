"""Source: the topic as the broker describes it, and the stream that Spark reads from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from conf.kafka_refusal import REFUSED_LOGIN, connecting
from streaming.errors import AwayError, StreamingError

if TYPE_CHECKING:  # `watch` looks at topics without Spark
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Topic:
    """A topic at one moment: its id (a re-created topic has another), and per partition the first offset that the
    broker holds and the one after the last."""

    name: str
    topic_id: str
    first_offsets: Mapping[int, int]
    end_offsets: Mapping[int, int]


def describe_topic(
    bootstrap_servers: str, name: str, timeout_seconds: float, security: Mapping[str, Any] | None = None
) -> Topic:
    """Ask the broker; `security` is Settings.kafka_security(). Raises AwayError if it does not answer in time,
    StreamingError if it refuses the login or there is no such topic."""
    options = {"bootstrap_servers": bootstrap_servers, **(security or {})}
    try:
        with connecting() as reasons:
            admin = KafkaAdminClient(**options, bootstrap_timeout_ms=int(timeout_seconds * 1000))
        try:
            described = next((t for t in admin.describe_topics([name]) if t["name"] == name), None)
        finally:
            admin.close()
        if described is None or described["error_code"] == 3:  # UNKNOWN_TOPIC_OR_PARTITION
            raise StreamingError(
                f"topic {name!r} does not exist on {bootstrap_servers}: create it with `python -m stack up`, "
                "or set KAFKA_TOPIC"
            )
        consumer = KafkaConsumer(**options, enable_auto_commit=False)
        try:
            partitions = [TopicPartition(name, p["partition_index"]) for p in described["partitions"]]
            first = consumer.beginning_offsets(partitions)
            end = consumer.end_offsets(partitions)
        finally:
            consumer.close()
    except KafkaError as error:
        if reasons.login_refused:
            raise StreamingError(f"Kafka at {bootstrap_servers} {REFUSED_LOGIN}") from None
        raise AwayError(
            f"Kafka at {bootstrap_servers} does not answer: {type(error).__name__} {error}".strip()
            + reasons.hint(security)
        ) from error
    return Topic(
        name,
        str(described["topic_id"]),
        {p.partition: offset for p, offset in first.items()},
        {p.partition: offset for p, offset in end.items()},
    )


def offsets_at(
    bootstrap_servers: str,
    topic: Topic,
    moment: datetime,
    timeout_seconds: float,
    security: Mapping[str, Any] | None = None,
) -> dict[int, int]:
    """Per partition the first offset whose record was produced at or after the (aware) moment; the end if none was.

    Reads no record. `security` is Settings.kafka_security(). Raises AwayError if the broker does not answer in time.
    """
    milliseconds = int(timeout_seconds * 1000)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            bootstrap_timeout_ms=milliseconds,
            **(security or {}),
        )
        try:
            asked = {TopicPartition(topic.name, p): int(moment.timestamp() * 1000) for p in topic.end_offsets}
            found = consumer.offsets_for_times(asked, timeout_ms=milliseconds)
        finally:
            consumer.close()
    except KafkaError as error:
        raise AwayError(f"Kafka at {bootstrap_servers} does not answer: {type(error).__name__} {error}") from error
    return {p.partition: topic.end_offsets[p.partition] if at is None else at.offset for p, at in found.items()}


def read_topic(
    spark: SparkSession,
    bootstrap_servers: str,
    topic: Topic,
    start: Mapping[int, int],
    max_records: int,
    patience_seconds: float | None = None,
    security: Mapping[str, str] | None = None,
) -> DataFrame:
    """The topic as a stream of records (key, value, topic, partition, offset, timestamp), from the offsets `start`.

    At most `max_records` records a micro-batch; with `patience_seconds`, fewer only after so long a wait; `security` is
    Settings.spark_kafka_security(). The stream fails rather than skip records that are gone.
    """
    stream = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .options(**(security or {}))
        .option("subscribe", topic.name)
        .option("startingOffsets", json.dumps({topic.name: {str(p): offset for p, offset in start.items()}}))
        .option("maxOffsetsPerTrigger", str(max_records))
        .option("failOnDataLoss", "true")
        # Give up on a silent broker within about half a minute, so that the job can say so and retry by itself.
        .option("kafka.default.api.timeout.ms", "10000")
        .option("kafka.request.timeout.ms", "5000")
        .option("kafka.reconnect.backoff.max.ms", "1000")
        .option("fetchOffset.numRetries", "2")
    )
    if patience_seconds is not None:
        stream = stream.option("minOffsetsPerTrigger", str(max_records))
        stream = stream.option("maxTriggerDelay", f"{round(patience_seconds * 1000)}ms")
    return stream.load()
