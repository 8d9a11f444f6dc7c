"""Lag: how many records of the topic are not applied yet, by the broker's own count."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog
from kafka import TopicPartition
from kafka.consumer import KafkaConsumer
from kafka.errors import KafkaError

from conf.kafka import Brokers
from streaming.scraped import Scraped
from topic.describe import READ_COMMITTED, READ_UNCOMMITTED, Topic
from topic.offsets import behind

log = structlog.get_logger()
_PATIENCE_MS = 250  # the broker answers within 1-3 ms; a scrape waits no longer than this for a number


class Lag(Scraped):
    """How far one topic is applied, compared with its end. The job only records its progress; whoever asks makes the
    request to the broker in their own thread."""

    # KeyError: of a partition that the consumer does not know.
    failures = (KafkaError, OSError, ValueError, KeyError)

    def __init__(self, brokers: Brokers, topic: Topic, next_offsets: Mapping[int, int]) -> None:
        """`next_offsets`: how far each partition is applied."""
        super().__init__()
        self._brokers = brokers
        self._topic = topic.name
        self._next_offsets = dict(next_offsets)
        self._consumers: dict[str, KafkaConsumer] = {}
        self._known = self._next_offsets.keys()
        self._held: dict[int, tuple[int, float]] = {}

    def advance(self, next_offsets: Mapping[int, int]) -> None:
        """Record how far a committed batch got; never blocks."""
        self._next_offsets = {**self._next_offsets, **next_offsets}

    def by_partition(self) -> dict[int, int] | None:
        """Records after the applied next offset, per partition; None while the broker does not answer."""
        return self.asked(lambda: behind(self._next_offsets, self._ends(READ_COMMITTED)))

    def held_seconds(self) -> float | None:
        """How long records have been behind the same open transaction, as far as previous requests show; 0: none
        are."""
        return self.asked(self._held_seconds)

    def _held_seconds(self) -> float:
        written = self._ends(READ_UNCOMMITTED)  # first, so that what is committed in between does not count as held
        committed = self._ends(READ_COMMITTED)
        now = time.monotonic()
        held = {p: end for p, end in committed.items() if written.get(p, end) > end}
        before = {p: seen for p, seen in self._held.items() if seen[0] == held.get(p)}
        self._held = {p: before.get(p, (end, now)) for p, end in held.items()}
        return max((now - since for _, since in self._held.values()), default=0.0)

    def _ends(self, isolation_level: str) -> dict[int, int]:
        """Where each partition ends, for such a reader."""
        partitions = self._next_offsets.keys()
        if partitions - self._known:  # added since the connection was made, which does not know
            self._disconnect()
        if isolation_level not in self._consumers:
            self._known = partitions
            self._consumers[isolation_level] = self._brokers.consumer(
                client_id="lag", isolation_level=isolation_level, bootstrap_timeout_ms=2_000
            )
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        ends = self._consumers[isolation_level].end_offsets(asked, timeout_ms=_PATIENCE_MS)
        return {p.partition: end for p, end in ends.items()}

    def _disconnect(self) -> None:
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            try:
                consumer.close(timeout_ms=_PATIENCE_MS)
            except (KafkaError, OSError) as error:
                log.debug("lag's connection did not close", reason=f"{type(error).__name__}: {error}")
