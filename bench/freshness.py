"""Freshness: from Kafka's record timestamp to visible in the mart, at steady rates, for each streaming contender.

A contender is started once and gets the rates one after another, each for a while to warm up and a while that counts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd

from bench.memory import PeakMemory
from bench.oracle import expected_of_topic, purchases_of_topic, wrong
from bench.results import Figure, Row
from bench.servers import Database, Servers
from bench.ways import Way, rows_of
from stack.command import Command, CommandError

_LOOK_SECONDS = 1.0
_FIRST_RATE = 20  # a second: until the way is up and shows them
_START_SECONDS = 180
_DRAIN_SECONDS = 60
_BEHIND_SECONDS = 3.0
"""A way whose mart lacks more than the invoices of so many seconds when the traffic ends falls behind."""


@dataclass(frozen=True)
class Plan:
    """The rates (invoices a second) and the seconds of each that warm and that count."""

    rates: tuple[int, ...]
    warm: int
    seconds: int

    @property
    def both(self) -> int:
        return self.warm + self.seconds


def freshness(servers: Servers, plan: Plan, ways: Sequence[Way], peers_python: Path | None) -> Iterator[Row]:
    """A row a way and rate: p50_ms, p99_ms, sent_per_second, samples, cores, peak_mb; behind_per_second of one that
    falls behind, which then has no percentiles.

    Ours are measured of every invoice; a peer's of the newest record of each customer's row, read each second. After
    the last rate the customers must be those that DuckDB recomputes from the topic.
    """
    for way in ways:
        if way.streams:
            yield from rows_of(way, peers_python, _case(plan.rates[0]), partial(_measured, servers, plan, way))


def _case(rate: int) -> str:
    return f"{rate:,} invoices/s"


def _measured(servers: Servers, plan: Plan, way: Way, python: Path) -> list[Row]:
    topic = servers.empty_topic(re.sub(r"\W+", "_", f"freshness_{way.name}".lower()))
    with servers.fresh_database(topic) as place, way.started(python, servers, place, topic) as running:
        stream = _Stream(servers, place, topic, way, running)
        stream.wait_until_up()
        rows = [Row(_case(rate), way.name, *stream.at_rate(rate, plan)) for rate in plan.rates]
        expected = expected_of_topic(servers.kafka, topic)
        stream.wait_for(int(expected["frequency"].sum()), _DRAIN_SECONDS)
        difference = wrong(place.customers(way.customers), expected)
    return [Row(row.case, row.way, wrong=difference) for row in rows] if difference else rows


@dataclass(frozen=True)
class _Stream:
    """A way at work, and the traffic that it gets."""

    servers: Servers
    place: Database
    topic: str
    way: Way
    running: Command

    def traffic(self, rate: int, seconds: float) -> Command:
        options = ("--rate", f"{rate}/s", "--no-rhythm", "--duration", str(seconds), "--no-progress")
        environment = self.servers.environment(self.place, self.topic)
        log = self.servers.home / "log" / f"live-{self.topic}.log"
        return Command("cli", "live", *options, log=log, environment=environment)

    def wait_until_up(self) -> None:
        with self.traffic(_FIRST_RATE, 2) as traffic:
            traffic.succeed()
        purchases = purchases_of_topic(self.servers.kafka, self.topic)
        if self.wait_for(purchases, _START_SECONDS) < purchases:
            raise CommandError(f"nothing was shown within {_START_SECONDS} s: {self.running.tail()}")

    def wait_for(self, purchases: int, seconds: float) -> int:
        """Until so many are visible, at most so long; how many are."""
        deadline = time.monotonic() + seconds
        while (seen := self.place.visible(self.way.visible)) < purchases and time.monotonic() < deadline:
            self.way.check(self.running)
            time.sleep(0.1)
        return seen

    def at_rate(self, rate: int, plan: Plan) -> tuple[dict[str, Figure], str | None]:
        """The figures of one rate, and what a reader must know of them."""
        before = self.place.visible(self.way.visible)
        looks = []
        with PeakMemory([self.running.pid]) as memory, self.traffic(rate, plan.both) as traffic:
            start = datetime.now(UTC) + timedelta(seconds=plan.warm)
            memory.sample()
            used = memory.processor_seconds
            while traffic.process.poll() is None:
                self.way.check(self.running)
                looks += [] if self.way.is_ours else [self._newest_records(start)]
                time.sleep(_LOOK_SECONDS)
            memory.sample()
            used = memory.processor_seconds - used
            sent = int(traffic.succeed().split()[0].replace(",", ""))
        shown = self.place.visible(self.way.visible)
        expected = purchases_of_topic(self.servers.kafka, self.topic)
        figures: dict[str, Figure] = {
            "sent_per_second": sent / plan.both,
            "cores": used / plan.both,
            "peak_mb": memory.megabytes,
        }
        caught_up = self.wait_for(expected, _DRAIN_SECONDS) >= expected
        if expected - shown > _BEHIND_SECONDS * (expected - before) / plan.both:
            figures["behind_per_second"] = (expected - shown) / plan.both
            return figures, None if caught_up else f"not caught up {_DRAIN_SECONDS} s later"
        if self.way.is_ours:
            ms = self.place.rows("bench/invoice_latencies", start=start, seconds=plan.seconds)["ms"]
        else:
            seen = pd.concat([self._newest_records(start), *(look for look in looks if len(look))])
            seen = seen.drop_duplicates(["customer_id", "newest_record"])
            ms = seen["ms"][seen["newest_record"] < start + timedelta(seconds=plan.seconds)]
        if len(ms):
            figures |= {"p50_ms": float(ms.quantile(0.5)), "p99_ms": float(ms.quantile(0.99)), "samples": len(ms)}
        return figures, None

    def _newest_records(self, start: datetime) -> pd.DataFrame:
        """Each customer's newest record, as the row shows it now, with the milliseconds until it was visible."""
        return self.place.rows("bench/latest_records", start=start)
