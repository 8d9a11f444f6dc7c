"""Topics: make sure that one is there, delete one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import kafka
import kafka.errors

from conf.kafka_refusal import REFUSED_LOGIN, connecting
from stack.state import StackError


def _admin(bootstrap: str, seconds: float, security: Mapping[str, Any] | None) -> kafka.KafkaAdminClient:
    try:
        with connecting() as reasons:
            return kafka.KafkaAdminClient(
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


def ensure_topic(
    bootstrap: str, topic: str, partitions: int, seconds: float = 30, security: Mapping[str, Any] | None = None
) -> int:
    """Create the topic if it is missing and wait until it can be used; the partitions that it has.

    An existing topic is left as it is; `security` is Settings.kafka_security(). Raises StackError if the brokers are
    unavailable or refuse.
    """
    admin = _admin(bootstrap, seconds, security)
    try:
        if topic not in admin.list_topics():
            with contextlib.suppress(kafka.errors.TopicAlreadyExistsError):  # another process was first
                admin.create_topics({topic: {"num_partitions": partitions}})
        admin.wait_for_topics([topic], timeout_ms=int(seconds * 1000))
        return len(admin.describe_topics([topic])[0]["partitions"])
    except kafka.errors.KafkaError as error:
        raise StackError(f"topic {topic!r} cannot be created at {bootstrap}: {error}") from error
    finally:
        admin.close()


def delete_topic(bootstrap: str, topic: str, seconds: float = 30, security: Mapping[str, Any] | None = None) -> None:
    """Delete the topic; one that is not there is no error. Raises StackError if the brokers are unavailable or
    refuse."""
    admin = _admin(bootstrap, seconds, security)
    try:
        admin.delete_topics([topic])
    except kafka.errors.UnknownTopicOrPartitionError:
        pass
    except kafka.errors.KafkaError as error:
        raise StackError(f"topic {topic!r} cannot be deleted at {bootstrap}: {error}") from error
    finally:
        admin.close()
