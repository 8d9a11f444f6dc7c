"""Source: the topic as the broker describes it, and the stream that Spark reads from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError

from conf.errors import StreamingError, UnavailableError
from conf.kafka_refusal import REFUSED_LOGIN, Reasons, connecting

if TYPE_CHECKING:  # `watch` looks at topics without Spark
    pass

log = structlog.get_logger()
# Of every reader here: what a producer's transaction took back is no record, what is not committed yet is not there.
READ_COMMITTED = "read_committed"
# Of who asks what stands behind a transaction that is still open.
READ_UNCOMMITTED = "read_uncommitted"
_PATIENCE_MS = 5_000  # within a batch, which a stop signal waits for


@dataclass(frozen=True)
class Topic:
    """A topic at one moment: its id (a re-created topic has another), and per partition the first offset that the
    broker holds and the one after the last that is committed."""

    name: str
    topic_id: str
    first_offsets: Mapping[int, int]
    end_offsets: Mapping[int, int]


def describe_topic(
    bootstrap_servers: str, name: str, timeout_seconds: float, security: Mapping[str, Any] | None = None
) -> Topic:
    """Ask the broker; `security` is Settings.kafka_security(). Raises UnavailableError if it is unavailable,
    StreamingError if it refuses the login or there is no such topic."""
    options = {"bootstrap_servers": bootstrap_servers, **(security or {})}
    with _asking(bootstrap_servers, security) as reasons:
        with connecting(reasons):
            admin = KafkaAdminClient(**options, bootstrap_timeout_ms=int(timeout_seconds * 1000))
        try:
            described = _described(admin, name, bootstrap_servers)
        finally:
            admin.close()
        consumer = KafkaConsumer(**options, enable_auto_commit=False, isolation_level=READ_COMMITTED)
        try:
            partitions = [TopicPartition(name, p["partition_index"]) for p in described["partitions"]]
            first = consumer.beginning_offsets(partitions)
            end = consumer.end_offsets(partitions)
        finally:
            consumer.close()
    return Topic(
        name,
        str(described["topic_id"]),
        {p.partition: offset for p, offset in first.items()},
        {p.partition: offset for p, offset in end.items()},
    )


class TopicAdmin:
    """One kept connection to ask about a topic: while a query runs, whether the topic is still the one that it began
    with. An answer takes 1-3 ms. Not to be shared by threads."""

    def __init__(
        self,
        bootstrap_servers: str,
        name: str,
        timeout_seconds: float,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        """`security` is Settings.kafka_security(). Raises what describe_topic raises."""
        self._servers, self._name, self._security = bootstrap_servers, name, security
        milliseconds = int(timeout_seconds * 1000)
        with self._asking() as reasons, connecting(reasons):
            self._admin = KafkaAdminClient(
                bootstrap_servers=bootstrap_servers,
                client_id="topic",
                bootstrap_timeout_ms=milliseconds,
                request_timeout_ms=min(milliseconds, _PATIENCE_MS),
                **(security or {}),
            )

    def topic_id(self) -> str:
        """The topic's id of now. Raises UnavailableError if the broker is unavailable, StreamingError without a
        topic."""
        with self._asking():
            return str(_described(self._admin, self._name, self._servers)["topic_id"])

    def check_cleanup_policy(self) -> None:
        """Raise StreamingError if the broker compacts the topic; only warn if it does not say."""
        with self._asking():
            asked = ConfigResource("topic", self._name, ["cleanup.policy"])
            told = self._admin.describe_configs([asked], config_filter="all").get("topic", {})
        policy = told.get(self._name, {}).get("cleanup.policy", {}).get("value")
        if policy is None:
            log.warning(
                "cleanup policy unknown",
                topic=self._name,
                reason="this login may not describe the topic's configuration: see to it that it is not compacted",
            )
        elif "compact" in policy:
            raise StreamingError(
                f"topic {self._name!r} has cleanup.policy={policy}: its key is the customer, so compaction deletes all "
                "of a customer's invoices but the last, read or not. Turn it off, and replay what it has deleted: "
                f"kafka-configs.sh --bootstrap-server {self._servers} --alter --topic {self._name} "
                "--add-config cleanup.policy=delete"
            )

    def close(self) -> None:
        try:
            self._admin.close()
        except (KafkaError, OSError) as error:
            log.debug("the topic's connection did not close", reason=f"{type(error).__name__}: {error}")

    def _asking(self) -> _Asking:
        return _asking(self._servers, self._security)


def _described(admin: KafkaAdminClient, name: str, bootstrap_servers: str) -> dict[str, Any]:
    described = next((t for t in admin.describe_topics([name]) if t["name"] == name), None)
    if described is None or described["error_code"] == 3:  # UNKNOWN_TOPIC_OR_PARTITION
        raise StreamingError(
            f"topic {name!r} does not exist on {bootstrap_servers}: create it with `retail-mart up`, or set KAFKA_TOPIC"
        )
    return dict(described)


_Asking = AbstractContextManager[Reasons]


@contextmanager
def _asking(bootstrap_servers: str, security: Mapping[str, Any] | None) -> Iterator[Reasons]:
    """Kafka's errors as ours, with the reasons that were collected meanwhile."""
    reasons = Reasons()
    try:
        yield reasons
    except (KafkaError, OSError) as error:
        if reasons.login_refused:
            raise StreamingError(f"Kafka at {bootstrap_servers} {REFUSED_LOGIN}") from None
        raise UnavailableError(
            f"Kafka at {bootstrap_servers} is unavailable: {type(error).__name__} {error}".strip()
            + reasons.hint(security)
        ) from error


def offsets_at(
    bootstrap_servers: str,
    topic: Topic,
    moment: datetime,
    timeout_seconds: float,
    security: Mapping[str, Any] | None = None,
) -> dict[int, int]:
    """Per partition the first offset whose record was produced at or after the (aware) moment; the end if none was, or
    if that one is not committed.

    Reads no record. `security` is Settings.kafka_security(). Raises UnavailableError if the broker is unavailable.
    """
    written = written_at(bootstrap_servers, topic, moment, timeout_seconds, security)
    return {partition: min(offset, topic.end_offsets[partition]) for partition, offset in written.items()}


def written_at(
    bootstrap_servers: str,
    topic: Topic,
    moment: datetime,
    timeout_seconds: float,
    security: Mapping[str, Any] | None = None,
) -> dict[int, int]:
    """The same of all that is written, committed or not: what goes beyond the topic's end stands in, or behind, a
    transaction that is open."""
    milliseconds = int(timeout_seconds * 1000)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            isolation_level=READ_UNCOMMITTED,
            bootstrap_timeout_ms=milliseconds,
            **(security or {}),
        )
        try:
            asked = {TopicPartition(topic.name, p): int(moment.timestamp() * 1000) for p in topic.end_offsets}
            found = consumer.offsets_for_times(asked, timeout_ms=milliseconds)
            ends = consumer.end_offsets(list(asked), timeout_ms=milliseconds)
        finally:
            consumer.close()
    except KafkaError as error:
        raise UnavailableError(
            f"Kafka at {bootstrap_servers} is unavailable: {type(error).__name__} {error}"
        ) from error
    return {p.partition: ends[p] if at is None else at.offset for p, at in found.items()}
