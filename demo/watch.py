"""Watch the mart fill: one snapshot a moment, drawn as a live table."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from kafka import TopicPartition
from psycopg2.extensions import connection as Connection  # noqa: N812
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conf.counted import counted
from conf.kafka import Brokers
from conf.segments import segments
from sql import one_row, statement
from topic.offsets import behind

WINDOW_SECONDS = 5
"""Of the rate, the latencies and the changes: how far they look back."""


@dataclass(frozen=True)
class Snapshot:
    """The pipeline at one moment. `lag`: records on the topic that are not applied; latencies in milliseconds."""

    at: float
    invoices: int
    rejected: int
    duplicates: int
    lag: int
    newest_invoice_date: datetime | None
    p50: Decimal | None
    p99: Decimal | None
    segments: Mapping[str, tuple[int, Decimal]]


class Watcher:
    """Takes snapshots of the mart (as its owner) and of the topic's end."""

    def __init__(self, connection: Connection, brokers: Brokers, topic: str) -> None:
        self._connection = connection
        self._connection.autocommit = True
        self._topic = topic
        self._consumer = brokers.consumer()
        partitions = self._consumer.partitions_for_topic(topic) or set()
        self._partitions = [TopicPartition(topic, partition) for partition in sorted(partitions)]

    def snapshot(self, at: float) -> Snapshot:
        """The state now; `at` is the caller's clock, seconds."""
        ends = {p.partition: end for p, end in self._consumer.end_offsets(self._partitions).items()}
        with self._connection.cursor() as cursor:
            cursor.execute(statement("demo/next_offsets"), {"topic": self._topic})
            next_offsets = dict(cursor.fetchall())
            cursor.execute(statement("demo/progress"), {"seconds": WINDOW_SECONDS})
            invoices, rejected, duplicates, newest, p50, p99 = one_row(cursor)
            cursor.execute(statement("demo/segments"))
            counts = {name: (customers, monetary) for name, customers, monetary in cursor.fetchall()}
        lag = sum(behind(next_offsets, ends).values())
        return Snapshot(at, int(invoices), int(rejected), int(duplicates), lag, newest, p50, p99, counts)

    def close(self) -> None:
        self._consumer.close()


class Screen:
    """Draws the newest snapshot, with rates and changes against the ones before."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._history: deque[Snapshot] = deque()

    def draw(self, now: Snapshot) -> RenderableType:
        """The live table after `now`, as wide as the terminal."""
        self._history.append(now)
        while self._history[0].at < now.at - WINDOW_SECONDS:
            self._history.popleft()
        then = self._history[0]
        rate = (now.invoices - then.invoices) / (now.at - then.at) if now.at > then.at else 0.0
        facts = Table.grid(padding=(0, 2))
        names = ("invoices", "per second", "lag, records", "quarantined", "p50", "p99")
        for name in names:
            facts.add_column(justify="right", min_width=max(9, len(name)), no_wrap=True)
        facts.add_row(*(Text(name, style="dim") for name in names))
        facts.add_row(
            f"[bold]{now.invoices:,}",
            f"{rate:,.0f}",
            f"{now.lag:,}",
            f"{now.rejected:,}",
            _milliseconds(now.p50),
            _milliseconds(now.p99),
        )
        as_of = f"{now.newest_invoice_date:%d %B %Y, %H:%M}" if now.newest_invoice_date else "—"
        legend = f"change: customers gained or lost in the last {WINDOW_SECONDS} s; p50, p99: latency"
        return Group(
            Text(f"shop time {as_of}", style="bold cyan"), facts, self._segments(now, then), Text(legend, style="dim")
        )

    def _segments(self, now: Snapshot, then: Snapshot) -> Table:
        """The bars take the width that is left, and are to the scale of the largest segment."""
        table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
        table.add_column("segment", no_wrap=True)
        for name, width in (("customers", 9), ("change", 6), (f"spent, {self._currency}", 14)):
            table.add_column(name, justify="right", min_width=width, no_wrap=True)
        table.add_column("", ratio=1)
        largest = max((customers for customers, _ in now.segments.values()), default=0) or 1
        for segment in segments():
            customers, spent = now.segments.get(segment.name, (0, Decimal(0)))
            change = customers - then.segments.get(segment.name, (0, Decimal(0)))[0]
            table.add_row(
                segment.name,
                f"{customers:,}",
                Text(f"{change:+,}" if change else "·", style="green" if change > 0 else "red" if change else "dim"),
                f"{spent:,.0f}",
                Bar(largest, 0, customers, color="cyan"),
            )
        return table


def one_line(now: Snapshot) -> str:
    """The snapshot as one line of text, for where no terminal is."""
    counts = ", ".join(f"{s.name} {now.segments.get(s.name, (0, 0))[0]:,}" for s in segments())
    return (
        f"{counted(now.invoices, 'invoice')}, lag {counted(now.lag, 'record')}, {now.rejected:,} quarantined, "
        f"latency p50 {_milliseconds(now.p50)} p99 {_milliseconds(now.p99)} | {counts}"
    )


def _milliseconds(value: Decimal | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
