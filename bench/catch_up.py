"""Catch-up: from an already full topic into an empty mart, for each contender.

The clock runs from the start of the contender's process until all purchases are visible in its mart; its customers,
with scores and segments, must then equal those that DuckDB recomputes from the topic, to the cent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from bench.memory import PeakMemory
from bench.oracle import expected_of_topic, wrong
from bench.results import Figure, Row
from bench.servers import Servers, Topic
from bench.ways import Way, rows_of

_LOOK_SECONDS = 0.1
_LONG_ENOUGH_SECONDS = 2.0  # between the first and the last visible purchase, to tell a rate


def catch_up(
    servers: Servers, topic: Topic, ways: Sequence[Way], peers_python: Path | None, patience: float
) -> Iterator[Row]:
    """One row per contender: seconds, lines_per_second, warm_lines_per_second, peak_mb, read_ms and crash.

    `seconds` count from the process's start; the warm rate is the one after the first visible purchases, if the rest
    took at least two seconds. `read_ms` is the time to read all customers with their scores afterwards. A contender
    that takes longer than `patience` seconds is stopped: its row has no seconds, but the lines per second until then.
    """
    expected = expected_of_topic(servers.kafka, topic.name)
    for way in ways:
        case = f"{topic.lines:,} lines"
        yield from rows_of(way, peers_python, case, partial(_measured, servers, topic, way, expected, patience, case))


def _measured(
    servers: Servers, topic: Topic, way: Way, expected: pd.DataFrame, patience: float, case: str, python: Path
) -> Iterator[Row]:
    purchases = int(expected["frequency"].sum())
    name = re.sub(r"\W+", "_", f"catch_up_{topic.lines}_{way.name}".lower())
    with servers.fresh_database(name) as place:
        start = time.perf_counter()
        first: tuple[float, int] | None = None
        with way.started(python, servers, place, topic.name) as running, PeakMemory([running.pid]) as memory:
            while (seen := place.visible(way.visible)) < purchases and time.perf_counter() < start + patience:
                if seen and first is None:
                    first = time.perf_counter(), seen
                way.check(running)
                time.sleep(_LOOK_SECONDS)
            end = time.perf_counter()
            found = place.customers(way.customers) if seen else expected[:0]
            read = time.perf_counter() - end
    figures: dict[str, Figure] = {"peak_mb": memory.megabytes, "crash": way.crash}
    if seen < purchases:
        done = topic.lines * seen / purchases
        note = f"stopped after {patience:.0f} s, at {done:,.0f} lines"
        yield Row(case, way.name, figures | {"lines_per_second": done / patience}, note)
    elif difference := wrong(found, expected):
        yield Row(case, way.name, wrong=difference)
    else:
        seconds = end - start
        figures |= {"seconds": seconds, "lines_per_second": topic.lines / seconds, "read_ms": read * 1000}
        if first and end - first[0] >= _LONG_ENOUGH_SECONDS:
            figures["warm_lines_per_second"] = (1 - first[1] / purchases) * topic.lines / (end - first[0])
        yield Row(case, way.name, figures)
