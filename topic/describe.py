"""Describe: the topic as the brokers describe it, once or repeatedly."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from kafka import TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError

from conf.errors import StreamingError
from conf.kafka import Brokers

log = structlog.get_logger()
# For every reader: what a producer aborted is not a record, and what is not committed yet is not there.
READ_COMMITTED = "read_committed"
# For asking what is in or behind an open transaction.
READ_UNCOMMITTED = "read_uncommitted"
_PATIENCE_MS = 5_000  # within a batch, which a stop signal waits for


@dataclass(frozen=True)
class Topic:
    """A topic at one moment: its id (a re-created topic has another one), and per partition the first offset that the
    broker holds and the one after the last committed record."""

    name: str
    topic_id: str
    first_offsets: Mapping[int, int]
    end_offsets: Mapping[int, int]


def describe_topic(brokers: Brokers, name: str) -> Topic:
    """Ask the brokers. Raises UnavailableError if they do not answer in time, StreamingError if they refuse the login
    or have no such topic."""
    with brokers.answering():
        with closing(brokers.admin()) as admin:
            described = _described(admin, name, brokers)
        partitions = [TopicPartition(name, p["partition_index"]) for p in described["partitions"]]
        with closing(brokers.consumer(isolation_level=READ_COMMITTED)) as consumer:
            first = consumer.beginning_offsets(partitions, timeout_ms=brokers.timeout_ms)
            end = consumer.end_offsets(partitions, timeout_ms=brokers.timeout_ms)
    return Topic(
        name,
        str(described["topic_id"]),
        {p.partition: offset for p, offset in first.items()},
        {p.partition: offset for p, offset in end.items()},
    )


class TopicAdmin:
    """A persistent connection for questions about a topic: while a query runs, whether the topic is still the one it
    began with. An answer takes 1-3 ms. Not to be shared between threads."""

    def __init__(self, brokers: Brokers, name: str) -> None:
        """Raises what describe_topic raises."""
        self._brokers, self._name = brokers, name
        with brokers.answering():
            self._admin = brokers.admin(client_id="topic", request_timeout_ms=min(brokers.timeout_ms, _PATIENCE_MS))

    def topic_id(self) -> str:
        """The topic's current id. Raises UnavailableError if the broker is unavailable, StreamingError if there is no
        such topic."""
        with self._brokers.answering():
            return str(_described(self._admin, self._name, self._brokers)["topic_id"])

    def check_cleanup_policy(self) -> None:
        """Raise StreamingError if the broker compacts the topic; only warn if it does not say."""
        with self._brokers.answering():
            asked = ConfigResource("topic", self._name, ["cleanup.policy"])
            told = self._admin.describe_configs([asked], config_filter="all").get("topic", {})
        policy = told.get(self._name, {}).get("cleanup.policy", {}).get("value")
        if policy is None:
            log.warning(
                "cleanup policy unknown",
                topic=self._name,
                reason="this login may not describe the topic's configuration: make sure that it is not compacted",
            )
        elif "compact" in policy:
            raise StreamingError(
                f"topic {self._name!r} has cleanup.policy={policy}: its key is the customer, so compaction deletes all "
                "of a customer's invoices but the last, read or not. Turn it off, and replay what it has deleted: "
                f"kafka-configs.sh --bootstrap-server {self._brokers.servers} --alter --topic {self._name} "
                "--add-config cleanup.policy=delete"
            )

    def close(self) -> None:
        try:
            self._admin.close()
        except (KafkaError, OSError) as error:
            log.debug("the topic's connection did not close", reason=f"{type(error).__name__}: {error}")


def _described(admin: KafkaAdminClient, name: str, brokers: Brokers) -> dict[str, Any]:
    described = next((t for t in admin.describe_topics([name]) if t["name"] == name), None)
    if described is None or described["error_code"] == 3:  # UNKNOWN_TOPIC_OR_PARTITION
        raise StreamingError(
            f"topic {name!r} does not exist on {brokers.servers}: create it with `retail-mart up`, or set KAFKA_TOPIC"
        )
    return dict(described)


def written_at(brokers: Brokers, topic: Topic, moment: datetime) -> dict[int, int]:
    """Per partition, the first offset whose record was produced at or after the (aware) moment, or else the end,
    counting everything written, committed or not: what is beyond the topic's end is in, or behind, an open transaction.

    Reads no records. Raises what describe_topic raises.
    """
    asked = {TopicPartition(topic.name, p): int(moment.timestamp() * 1000) for p in topic.end_offsets}
    with brokers.answering(), closing(brokers.consumer(isolation_level=READ_UNCOMMITTED)) as consumer:
        found = consumer.offsets_for_times(asked, timeout_ms=brokers.timeout_ms)
        ends = consumer.end_offsets(list(asked), timeout_ms=brokers.timeout_ms)
    return {p.partition: ends[p] if at is None else at.offset for p, at in found.items()}
