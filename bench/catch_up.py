"""Catch-up: a topic that is full already into an empty mart, by each way.

The clock runs from the start of the way's process until all purchases are visible in its mart; its customers, with
scores and segments, must then be those that DuckDB recomputes from the topic, to the cent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd
import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from bench.memory import PeakMemory
from bench.oracle import customers_of, expected_of_topic, wrong
from bench.results import Figure, Row
from bench.servers import Servers, Topic
from bench.ways import EndedError, Running, Way, python_of, started
from sql import one_row, statement

_LOOK_SECONDS = 0.1
_LONG_ENOUGH_SECONDS = 2.0  # between the first and the last visible purchase, to tell a rate


def catch_up(
    servers: Servers,
    topic: Topic,
    ways: Sequence[Way],
    peers_python: Path | None,
    patience: float,
    say: Callable[[str], None],
) -> list[Row]:
    """A row a way: seconds, warm_lines_per_second, peak_mb, read_ms and crash.

    `seconds` are from the process's start; the warm rate is that after the first visible purchases, where
    these took at least two seconds. `read_ms` is what
    it takes to read all customers with their scores then. A way that takes longer than `patience` seconds is stopped:
    its row has no seconds, but the lines a second until then.
    """
    case = f"{topic.lines:,} lines"
    expected = expected_of_topic(servers.kafka, topic.name)
    rows = []
    for way in ways:
        python = python_of(way, peers_python)
        if python is None:
            rows.append(Row(case, way.name, note=f"not installed: {way.package}"))
            continue
        try:
            rows.append(_row(case, way, python, servers, topic, expected, patience))
        except EndedError as error:
            rows.append(Row(case, way.name, wrong=str(error)))
        say(f"catch-up, {case}, {way.name}: {dict(rows[-1].figures) or rows[-1].wrong}")
    return rows


def _row(
    case: str, way: Way, python: Path, servers: Servers, topic: Topic, expected: pd.DataFrame, patience: float
) -> Row:
    purchases = int(expected["frequency"].sum())
    lines_of_a_purchase = topic.lines / purchases
    name = re.sub(r"\W+", "_", f"catch_up_{topic.lines}_{way.name}".lower())
    with servers.fresh_database(name) as place:
        start = time.perf_counter()
        with started(way, python, servers, place, topic.name) as running, PeakMemory([running.pid]) as memory:
            first, last = _watch(running, place.owner_dsn, way, purchases, start + patience)
            read = time.perf_counter()
            found = customers_of(place.owner_dsn, way.customers)
            read = time.perf_counter() - read
    figures: dict[str, Figure] = {"peak_mb": memory.megabytes, "crash": way.crash}
    if last[1] < purchases:
        done = last[1] * lines_of_a_purchase
        note = f"stopped after {patience:.0f} s, at {done:,.0f} lines"
        return Row(case, way.name, figures | {"lines_per_second": done / patience}, note)
    if difference := wrong(found, expected):
        return Row(case, way.name, wrong=difference)
    seconds = last[0] - start
    figures |= {"seconds": seconds, "lines_per_second": topic.lines / seconds, "read_ms": read * 1000}
    if last[0] - first[0] >= _LONG_ENOUGH_SECONDS:
        figures["warm_lines_per_second"] = (last[1] - first[1]) * lines_of_a_purchase / (last[0] - first[0])
    return Row(case, way.name, figures)


Seen = tuple[float, int]
"""When, and how many purchases were visible then."""


def _watch(running: Running, dsn: str, way: Way, purchases: int, deadline: float) -> tuple[Seen, Seen]:
    """The first time that some purchases were visible, and the time that all were, or the last look."""
    first: Seen | None = None
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while True:
            seen = time.perf_counter(), visible(cursor, way)
            if first is None and seen[1]:
                first = seen
            if seen[1] >= purchases or seen[0] > deadline:
                return first or seen, seen
            running.check()
            time.sleep(_LOOK_SECONDS)


def visible(cursor: Cursor, way: Way) -> int:
    """How many purchases the way's mart shows now: the sum of its customers' frequencies."""
    try:
        cursor.execute(statement(way.visible))
    except psycopg2.errors.UndefinedTable:  # not made yet, or dropped to be made anew
        return 0
    return int(one_row(cursor)[0])
