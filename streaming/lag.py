"""Lag: how many records of the topic are not applied yet, by the broker's own count."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import structlog
from kafka import TopicPartition
from kafka.consumer import KafkaConsumer
from kafka.errors import KafkaError

from conf.kafka import Brokers
from topic.describe import READ_COMMITTED, READ_UNCOMMITTED, Topic

log = structlog.get_logger()
_PATIENCE_MS = 250  # the broker answers within 1-3 ms; a batch waits no longer than this for a number that is only told
_RETRY_SECONDS = 10


class Lag:
    """The applied positions of one topic beside its end. Safe to ask from several threads; asking raises nothing: while
    the broker is unavailable the lag is unknown (None), and it is left in peace for some seconds."""

    def __init__(self, brokers: Brokers, topic: Topic, positions: Mapping[int, int]) -> None:
        """`positions`: where each partition is applied up to."""
        self._brokers = brokers
        self._topic = topic.name
        self._positions = dict(positions)
        self._consumers: dict[str, KafkaConsumer] = {}
        self._held: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self.by_partition()  # connects now and not in the first batch

    def advance(self, next_offsets: Mapping[int, int]) -> None:
        """Take note of how far a committed batch came."""
        with self._lock:
            if next_offsets.keys() - self._positions.keys():  # added since the connection was made, which does not know
                self._disconnect()
            self._positions |= next_offsets

    def by_partition(self) -> dict[int, int] | None:
        """Records after the applied position, per partition; None while the broker does not say."""
        with self._lock:
            ends = self._ends(READ_COMMITTED)
            return None if ends is None else {p: max(0, end - self._positions[p]) for p, end in sorted(ends.items())}

    def held_seconds(self) -> float | None:
        """For how long records have stood behind the same open transaction, as far as asking has seen; 0: none do."""
        with self._lock:
            written = self._ends(READ_UNCOMMITTED)  # first: what is committed meanwhile is not held
            committed = None if written is None else self._ends(READ_COMMITTED)
            if written is None or committed is None:
                return None
            now = time.monotonic()
            held = {p: end for p, end in committed.items() if written.get(p, end) > end}
            before = {p: seen for p, seen in self._held.items() if seen[0] == held.get(p)}
            self._held = {p: before.get(p, (end, now)) for p, end in held.items()}
            return max((now - since for _, since in self._held.values()), default=0.0)

    def total(self) -> int | None:
        """The same of all partitions."""
        lag = self.by_partition()
        return None if lag is None else sum(lag.values())

    def close(self) -> None:
        with self._lock:
            self._silent_until = float("inf")
            self._disconnect()

    def _ends(self, isolation_level: str) -> dict[int, int] | None:
        """Where each partition ends, for such a reader; None while the broker does not say. The lock is held."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            if isolation_level not in self._consumers:
                self._consumers[isolation_level] = self._brokers.consumer(
                    client_id="lag",
                    isolation_level=isolation_level,
                    bootstrap_timeout_ms=2_000,
                )
            partitions = [TopicPartition(self._topic, partition) for partition in self._positions]
            ends = self._consumers[isolation_level].end_offsets(partitions, timeout_ms=_PATIENCE_MS)
        except (KafkaError, OSError, ValueError, KeyError) as error:  # KeyError: of a partition that it does not know
            log.debug("lag unknown", reason=f"{type(error).__name__}: {error}")
            self._silent_until = time.monotonic() + _RETRY_SECONDS
            self._disconnect()
            return None
        return {p.partition: end for p, end in ends.items()}

    def _disconnect(self) -> None:
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            try:
                consumer.close(timeout_ms=_PATIENCE_MS)
            except (KafkaError, OSError) as error:
                log.debug("lag's connection did not close", reason=f"{type(error).__name__}: {error}")
