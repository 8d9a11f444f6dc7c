"""Freshness: from Kafka's record timestamp to visible in the mart, at steady rates, by each way that streams.

A way is started once and gets the rates one after another, each for a while that warms and a while that counts.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from bench.catch_up import visible
from bench.memory import PeakMemory
from bench.oracle import customers_of, expected_of_topic, purchases_of_topic, wrong
from bench.results import Figure, Row
from bench.servers import Database, Servers
from bench.ways import EndedError, Running, Way, python_of, started
from sql import statement

_LOOK_SECONDS = 1.0
_FIRST_RATE = 20  # a second: until the way is up and shows them
_START_SECONDS = 180
_BEHIND_SECONDS = 3.0
"""A way whose mart lacks more than the invoices of so many seconds when the traffic ends falls behind."""


@dataclass(frozen=True)
class Plan:
    """The rates (invoices a second) and the seconds of each that warm and that count."""

    rates: tuple[int, ...]
    warm: int
    seconds: int
    drain: int = 60


def freshness(
    servers: Servers, plan: Plan, ways: Sequence[Way], peers_python: Path | None, say: Callable[[str], None]
) -> list[Row]:
    """A row a way and rate: p50_ms, p99_ms, sent_per_second, samples, cores, peak_mb; behind_per_second of one that
    falls behind, which then has no percentiles.

    Ours are measured of every invoice; a peer's of the newest record of each customer's row, read each second. After
    the last rate the customers must be those that DuckDB recomputes from the topic.
    """
    rows: list[Row] = []
    for way in (way for way in ways if way.streams):
        python = python_of(way, peers_python)
        if python is None:
            rows.append(Row(_case(plan.rates[0]), way.name, note=f"not installed: {way.package}"))
            continue
        try:
            measured = _of_way(way, python, servers, plan)
        except EndedError as error:
            measured = [Row(_case(plan.rates[0]), way.name, wrong=str(error))]
        for row in measured:
            say(f"freshness, {row.case}, {way.name}: {row.wrong or dict(row.figures)}")
        rows += measured
    return sorted(rows, key=lambda row: [_case(rate) for rate in plan.rates].index(row.case))


def _case(rate: int) -> str:
    return f"{rate:,} invoices/s"


def _of_way(way: Way, python: Path, servers: Servers, plan: Plan) -> list[Row]:
    name = re.sub(r"\W+", "_", f"freshness_{way.name}".lower())
    topic = servers.empty_topic(name)
    rows = []
    with servers.fresh_database(name) as place, started(way, python, servers, place, topic) as running:
        _wait_until_up(running, way, servers, place, topic)
        for rate in plan.rates:
            figures, note = _at_rate(rate, running, way, servers, place, topic, plan)
            rows.append(Row(_case(rate), way.name, figures, note))
        expected = expected_of_topic(servers.kafka, topic)
        _wait_for(running, way, place, int(expected["frequency"].sum()), plan.drain)
        difference = wrong(customers_of(place.owner_dsn, way.customers), expected)
    return [Row(row.case, row.way, wrong=difference) for row in rows] if difference else rows


def _traffic(servers: Servers, place: Database, topic: str, rate: int, seconds: float) -> subprocess.Popen[str]:
    options = ["--rate", f"{rate}/s", "--no-rhythm", "--duration", str(seconds), "--no-progress"]
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "live", *options],
        env=servers.environment(place, topic),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _sent(traffic: subprocess.Popen[str]) -> int:
    """Wait for the traffic's end; the invoices that the broker acknowledged."""
    said, errors = traffic.communicate()
    if traffic.returncode:
        raise RuntimeError(f"the live traffic ended with {traffic.returncode}: {errors}")
    return int(said.split()[0].replace(",", ""))


def _wait_until_up(running: Running, way: Way, servers: Servers, place: Database, topic: str) -> None:
    _sent(_traffic(servers, place, topic, _FIRST_RATE, 2))
    purchases = purchases_of_topic(servers.kafka, topic)
    if _wait_for(running, way, place, purchases, _START_SECONDS) < purchases:
        raise EndedError(f"{way.name} showed nothing within {_START_SECONDS} s: {running.tail()}")


def _wait_for(running: Running, way: Way, place: Database, purchases: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    with closing(psycopg2.connect(place.owner_dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while (seen := visible(cursor, way)) < purchases and time.monotonic() < deadline:
            running.check()
            time.sleep(0.1)
        return seen


def _latencies(cursor: Cursor, start: datetime, end: datetime) -> dict[tuple[str, datetime], float]:
    """Milliseconds of each customer's newest record between the two times, as the customer's row shows it now."""
    cursor.execute(statement("bench/latest_records"), {"start": start})
    return {(customer, record): ms for customer, record, ms in cursor.fetchall() if record < end}


def _at_rate(
    rate: int, running: Running, way: Way, servers: Servers, place: Database, topic: str, plan: Plan
) -> tuple[dict[str, Figure], str | None]:
    latencies: dict[tuple[str, datetime], float] = {}
    with (
        closing(psycopg2.connect(place.owner_dsn)) as connection,
        connection.cursor() as cursor,
        PeakMemory([running.pid]) as memory,
    ):
        connection.autocommit = True
        before = visible(cursor, way)
        traffic = _traffic(servers, place, topic, rate, plan.warm + plan.seconds)
        start = datetime.now(UTC) + timedelta(seconds=plan.warm)
        end = start + timedelta(seconds=plan.seconds)
        memory.sample()
        used = memory.processor_seconds
        while traffic.poll() is None:
            running.check()
            if not way.is_ours:
                latencies |= _latencies(cursor, start, end)
            time.sleep(_LOOK_SECONDS)
        sent = _sent(traffic)
        memory.sample()
        used = memory.processor_seconds - used
        shown = visible(cursor, way)
        expected = purchases_of_topic(servers.kafka, topic)
        behind = expected - shown
        figures: dict[str, Figure] = {
            "sent_per_second": sent / (plan.warm + plan.seconds),
            "cores": used / (plan.warm + plan.seconds),
            "peak_mb": memory.megabytes,
        }
        if behind > _BEHIND_SECONDS * (expected - before) / (plan.warm + plan.seconds):
            figures["behind_per_second"] = behind / (plan.warm + plan.seconds)
            if _wait_for(running, way, place, expected, plan.drain) < expected:
                return figures, f"not caught up {plan.drain} s later"
            return figures, None
        _wait_for(running, way, place, expected, plan.drain)
        if way.is_ours:
            cursor.execute(statement("bench/invoice_latencies"), {"start": start, "seconds": plan.seconds})
            measured = [ms for (ms,) in cursor.fetchall()]
        else:
            latencies |= _latencies(cursor, start, end)
            measured = list(latencies.values())
    if measured:
        p50, p99 = np.percentile(measured, [50, 99])
        figures |= {"p50_ms": float(p50), "p99_ms": float(p99), "samples": len(measured)}
    return figures, None
