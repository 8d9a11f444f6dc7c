"""Topics: make sure that one is there, delete one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import kafka
import kafka.errors

from conf.kafka_refusal import REFUSED_LOGIN, connecting
from stack.state import StackError


@contextlib.contextmanager
def _admin(
    bootstrap: str, seconds: float, security: Mapping[str, Any] | None, failure: str
) -> Iterator[kafka.KafkaAdminClient]:
    """A client for the block; what Kafka refuses of it is `failure`, a StackError."""
    try:
        with connecting() as reasons:
            admin = kafka.KafkaAdminClient(
                bootstrap_servers=bootstrap.split(","),
                client_id="stack",
                bootstrap_timeout_ms=int(seconds * 1000),
                **(security or {}),
            )
    except kafka.errors.KafkaError as error:
        if reasons.login_refused:
            raise StackError(f"Kafka at {bootstrap} {REFUSED_LOGIN}") from None
        raise StackError(
            f"no Kafka at KAFKA_BOOTSTRAP_SERVERS={bootstrap} within {seconds:g} s: {error or type(error).__name__}"
            + reasons.hint(security)
        ) from error
    with contextlib.closing(admin):
        try:
            yield admin
        except kafka.errors.KafkaError as error:
            raise StackError(f"{failure} at {bootstrap}: {error}") from error


def ensure_topic(
    bootstrap: str, topic: str, partitions: int, seconds: float = 30, security: Mapping[str, Any] | None = None
) -> int:
    """Create the topic if it is missing and wait until it can be used; the partitions that it has.

    An existing topic is left as it is; `security` is Settings.kafka_security(). Raises StackError if the brokers are
    away or refuse.
    """
    with _admin(bootstrap, seconds, security, f"topic {topic!r} cannot be created") as admin:
        if topic not in admin.list_topics():
            with contextlib.suppress(kafka.errors.TopicAlreadyExistsError):  # another process was first
                admin.create_topics({topic: {"num_partitions": partitions}})
        admin.wait_for_topics([topic], timeout_ms=int(seconds * 1000))
        return len(admin.describe_topics([topic])[0]["partitions"])


def delete_topic(bootstrap: str, topic: str, seconds: float = 30, security: Mapping[str, Any] | None = None) -> None:
    """Delete the topic; one that is not there is no error. Raises StackError if the brokers are away or refuse."""
    with (
        _admin(bootstrap, seconds, security, f"topic {topic!r} cannot be deleted") as admin,
        contextlib.suppress(kafka.errors.UnknownTopicOrPartitionError),
    ):
        admin.delete_topics([topic])
