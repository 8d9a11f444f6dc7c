"""Topics: make sure that one is there, delete one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from conf.kafka import Brokers


def ensure_topic(
    bootstrap: str, topic: str, partitions: int, seconds: float = 30, security: Mapping[str, Any] | None = None
) -> int:
    """Create the topic if it is missing and wait until it can be used; the partitions that it has.

    An existing topic is left as it is; `security` is Settings.kafka_security(). Raises what Brokers.answering raises.
    """
    brokers = Brokers(bootstrap, seconds, security or {})
    with brokers.answering(), closing(brokers.admin()) as admin:
        if topic not in admin.list_topics():
            with suppress(TopicAlreadyExistsError):  # another process was first
                admin.create_topics({topic: {"num_partitions": partitions}})
        admin.wait_for_topics([topic], timeout_ms=brokers.timeout_ms)
        return len(admin.describe_topics([topic])[0]["partitions"])


def delete_topic(bootstrap: str, topic: str, seconds: float = 30, security: Mapping[str, Any] | None = None) -> None:
    """Delete the topic; one that is not there is no error. Raises what Brokers.answering raises."""
    brokers = Brokers(bootstrap, seconds, security or {})
    with brokers.answering(), closing(brokers.admin()) as admin, suppress(UnknownTopicOrPartitionError):
        admin.delete_topics([topic])
