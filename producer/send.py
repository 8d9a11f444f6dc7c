"""Send messages to the topic, and know which of them the brokers have acknowledged."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from types import TracebackType
from typing import Any, Generic, TypeVar

from kafka.errors import BrokerResponseError, KafkaError

from conf.errors import OperatorError
from conf.kafka import Brokers

# What may wait for an acknowledgement; kafka-python itself sets no bound.
_MAX_IN_FLIGHT = 20_000
_MAX_BYTES_IN_FLIGHT = 64_000_000

Mark = TypeVar("Mark")


class DeliveryError(OperatorError):
    """The topic is missing or a message was refused; the message says what to do."""


class Sender(Generic[Mark]):
    """Sends to one topic; `acknowledged` counts from the first message on, without a gap.

    Each message carries a mark of the caller's; `mark` is that of the last message of which it and all before
    it have been acknowledged. Use it as a context manager.
    """

    def __init__(self, brokers: Brokers, topic: str, max_message_bytes: int = 1_000_000) -> None:
        """Connect. Raises DeliveryError if the brokers do not have the topic, and what Brokers.answering raises."""
        self.topic = topic
        self.max_message_bytes = max_message_bytes
        self.sent = 0
        self.acknowledged = 0
        self.mark: Mark | None = None
        self._brokers = brokers
        self._in_flight: deque[tuple[Any, int, Mark]] = deque()
        self._bytes = 0
        with brokers.answering():
            self._check_topic()
            self._producer = brokers.producer(max_message_bytes)

    def __enter__(self) -> Sender[Mark]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; what is still in flight is waited for only by flush()."""
        try:
            self._producer.close(timeout=0 if self._in_flight else 5)
        except KafkaError:  # it could not flush, which the caller knows by now
            self._producer._closed = True  # else its finalizer tries again and prints a traceback

    def send(self, key: bytes, value: bytes, mark: Mark) -> None:
        """Hand over one message; waits while too much is in flight.

        Raises DeliveryError if this or an earlier message could not be delivered in time.
        """
        self.collect()
        while len(self._in_flight) >= _MAX_IN_FLIGHT or self._bytes > _MAX_BYTES_IN_FLIGHT:
            self._wait_for_oldest(self._brokers.timeout_seconds)
        try:
            future = self._producer.send(self.topic, value=value, key=key)
        except KafkaError as error:
            raise self._explained(error) from None
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
        deadline = (
            time.monotonic() + self._brokers.timeout_seconds + 1
        )  # the client itself gives up at the timeout, and says why
        while self._in_flight:
            self._wait_for_oldest(max(0.0, deadline - time.monotonic()))

    def _wait_for_oldest(self, seconds: float) -> None:
        try:
            self._in_flight[0][0].get(timeout=seconds)
        except KafkaError as error:
            raise self._explained(error) from None
        self.collect()

    def _settle(self) -> None:
        future, size, mark = self._in_flight[0]
        if future.failed():
            raise self._explained(future.exception)
        self._in_flight.popleft()
        self._bytes -= size
        self.acknowledged += 1
        self.mark = mark

    def _check_topic(self) -> None:
        """Ask for the topic before anything is read: the producer itself would wait for it in silence."""
        with closing(self._brokers.admin()) as admin:
            there = self.topic in admin.list_topics()
        if not there:
            servers = self._brokers.servers
            raise DeliveryError(
                f"Kafka at {servers} has no topic {self.topic!r}: `retail-mart up` creates it, or use "
                f"`kafka-topics.sh --bootstrap-server {servers} --create --topic {self.topic}`, or name "
                "another one in KAFKA_TOPIC"
            )

    def _explained(self, error: BaseException) -> Exception:
        if isinstance(error, BrokerResponseError) and not error.retriable:
            return DeliveryError(
                f"Kafka at {self._brokers.servers} refused a message for {self.topic!r}: {error}. Check the "
                "configuration of topic and broker, and this login's rights"
            )
        return self._brokers.explained(error)
