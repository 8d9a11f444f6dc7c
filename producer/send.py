"""Send messages to the topic, and know which of them the brokers have acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import kafka
import kafka.errors

from conf.errors import OperatorError
from conf.kafka_refusal import REFUSED_LOGIN, connecting

# What may wait for an acknowledgement; kafka-python itself sets no bound.
_MAX_IN_FLIGHT = 20_000
_MAX_BYTES_IN_FLIGHT = 64_000_000

Mark = TypeVar("Mark")


class DeliveryError(OperatorError):
    """The brokers are unavailable, the topic is missing or a message was refused; the message says what to do."""


def producer_options(
    bootstrap: str, timeout_seconds: float, max_message_bytes: int, security: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How kafka-python is configured: nothing lost and nothing doubled by a retry, in order, compressed.

    The linger is short for the sake of latency; at full speed the batches fill long before it is over.
    """
    timeout_ms = int(timeout_seconds * 1000)
    return {
        "bootstrap_servers": bootstrap.split(","),
        "client_id": "producer",
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_request_size": max(1_048_576, max_message_bytes + 1_024),
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": timeout_ms,
        "max_block_ms": timeout_ms,
        "delivery_timeout_ms": timeout_ms + 5,
        "request_timeout_ms": max(1, timeout_ms // 3),
        **(security or {}),
    }


class Sender(Generic[Mark]):
    """Sends to one topic; `acknowledged` counts from the first message on, without a gap.

    Each message carries a mark of the caller's; `mark` is that of the last message of which it and all before
    it have been acknowledged. Use it as a context manager.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        timeout_seconds: float = 30,
        max_message_bytes: int = 1_000_000,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        """Connect; `security` is Settings.kafka_security(). Raises DeliveryError if the brokers are unavailable,
        refuse the login or do not have the topic."""
        self.topic = topic
        self.max_message_bytes = max_message_bytes
        self.sent = 0
        self.acknowledged = 0
        self.mark: Mark | None = None
        self._bootstrap = bootstrap
        self._timeout = timeout_seconds
        self._in_flight: deque[tuple[Any, int, Mark]] = deque()
        self._bytes = 0
        options = producer_options(bootstrap, timeout_seconds, max_message_bytes, security)
        self._security = security or {}
        self._check_topic(options)
        try:
            self._producer = kafka.KafkaProducer(**options)
        except kafka.errors.KafkaError as error:
            raise self._unavailable(error) from None

    def __enter__(self) -> Sender[Mark]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; what is still in flight is waited for only by flush()."""
        try:
            self._producer.close(timeout=0 if self._in_flight else 5)
        except kafka.errors.KafkaError:  # it could not flush, which the caller knows by now
            self._producer._closed = True  # else its finalizer tries again and prints a traceback

    def send(self, key: bytes, value: bytes, mark: Mark) -> None:
        """Hand over one message; waits while too much is in flight.

        Raises DeliveryError if this or an earlier message could not be delivered in time.
        """
        self.collect()
        while len(self._in_flight) >= _MAX_IN_FLIGHT or self._bytes > _MAX_BYTES_IN_FLIGHT:
            self._wait_for_oldest(self._timeout)
        try:
            future = self._producer.send(self.topic, value=value, key=key)
        except kafka.errors.KafkaError as error:
            raise self._unavailable(error) from None
        size = len(key) + len(value)
        self._in_flight.append((future, size, mark))
        self._bytes += size
        self.sent += 1

    def collect(self) -> None:
        """Take note of what has been acknowledged. Raises DeliveryError if a message was refused."""
        while self._in_flight and self._in_flight[0][0].is_done:
            self._settle()

    def flush(self) -> None:
        """Wait until everything is acknowledged. Raises DeliveryError if that takes longer than the timeout."""
        deadline = time.monotonic() + self._timeout + 1  # the client itself gives up at the timeout, and says why
        while self._in_flight:
            self._wait_for_oldest(max(0.0, deadline - time.monotonic()))

    def _wait_for_oldest(self, seconds: float) -> None:
        try:
            self._in_flight[0][0].get(timeout=seconds)
        except kafka.errors.KafkaError as error:
            raise self._unavailable(error) from None
        self.collect()

    def _settle(self) -> None:
        future, size, mark = self._in_flight[0]
        if future.failed():
            raise self._unavailable(future.exception)
        self._in_flight.popleft()
        self._bytes -= size
        self.acknowledged += 1
        self.mark = mark

    def _check_topic(self, options: dict[str, Any]) -> None:
        """Ask for the topic before anything is read: the producer itself would wait for it in silence."""
        names = ("bootstrap_servers", "client_id", "bootstrap_timeout_ms", "request_timeout_ms")
        try:
            with connecting() as reasons:
                admin = kafka.KafkaAdminClient(**{name: options[name] for name in names}, **self._security)
        except kafka.errors.KafkaError as error:
            if reasons.login_refused:
                raise DeliveryError(f"Kafka at {self._bootstrap} {REFUSED_LOGIN}") from None
            raise self._unavailable(error, reasons.hint(self._security)) from None
        except ValueError as error:
            raise DeliveryError(
                f"KAFKA_BOOTSTRAP_SERVERS={self._bootstrap}: give host:port[,host:port] ({error})"
            ) from None
        try:
            there = self.topic in admin.list_topics()
        except kafka.errors.KafkaError as error:
            raise self._unavailable(error) from None
        finally:
            admin.close()
        if not there:
            raise DeliveryError(
                f"Kafka at {self._bootstrap} has no topic {self.topic!r}: `retail-mart up` creates it, or use "
                f"`kafka-topics.sh --bootstrap-server {self._bootstrap} --create --topic {self.topic}`, or name "
                "another one in KAFKA_TOPIC"
            )

    def _unavailable(self, error: BaseException, hint: str = "") -> DeliveryError:
        if isinstance(error, kafka.errors.BrokerResponseError) and not error.retriable:
            return DeliveryError(
                f"Kafka at {self._bootstrap} refused a message for {self.topic!r}: {error}. Look at the topic's "
                "and the broker's configuration and rights"
            )
        return DeliveryError(
            f"no answer from Kafka at {self._bootstrap} within {self._timeout:g} s ({error}): is it up? "
            "`retail-mart servers` shows the embedded one, `retail-mart up` starts it; "
            "KAFKA_BOOTSTRAP_SERVERS names another." + hint
        )
