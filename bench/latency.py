"""End-to-end latency: Kafka's record timestamp → committed in PostgreSQL, at a steady rate, on the whole pipeline.

Producer, broker, Spark and database share this machine. The windows tell how warm the pipeline is.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psycopg2
import typer
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Console

from conf.kafka import Brokers
from conf.settings import Settings
from conf.terminal import Table, number
from demo.pipeline import STREAMING_IS_READY, pipeline
from sql import one_row, statement
from stack.command import wait_until
from topic.describe import describe_topic

console = Console(highlight=False, soft_wrap=True)
_PATIENCE_SECONDS = 120


def wait_until_applied(current: Settings, seconds: float = _PATIENCE_SECONDS) -> None:
    """Until the mart is at the topic's end. Raises CommandError if that takes too long."""
    topic = describe_topic(Brokers.of(current), current.kafka_topic)
    end = sum(topic.end_offsets.values())
    with closing(psycopg2.connect(current.require_mart("owner"))) as owner, owner.cursor() as cursor:
        owner.autocommit = True

        def is_applied() -> bool:
            cursor.execute(statement("demo/next_offsets"), {"topic": topic.name})
            return sum(next_offset for _, next_offset in cursor.fetchall()) >= end

        wait_until(is_applied, seconds, "not all records are applied")


def first_record(cursor: Cursor, start: datetime) -> datetime:
    """When Kafka took the first invoice of the traffic that began then."""
    cursor.execute(statement("bench/first_record"), {"start": start})
    (first,) = one_row(cursor)
    return first


def latencies(cursor: Cursor, first: datetime, after: float, until: float) -> tuple[int, list[float]]:
    """Invoices that Kafka took between these seconds from `first` on; p50, p90, p99 and maximum in milliseconds."""
    cursor.execute(statement("bench/latency"), {"start": first, "after": after, "until": until})
    invoices, percentiles = one_row(cursor)
    return invoices, percentiles or []


def main(
    rate: Annotated[str, typer.Option(help="Rate.")] = "1000/s",
    warm: Annotated[int, typer.Option(min=0, help="Seconds of traffic that warm the pipeline first.")] = 20,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of traffic that are measured.")] = 60,
) -> None:
    """Measure p50, p90, p99 and the maximum, milliseconds, over the measured seconds and in windows of them."""
    columns = map(number, ("invoices", "p50", "p90", "p99", "max"))
    table = Table("window", *columns, title=f"End-to-end latency at {rate}, ms")
    windows = {
        f"first {warm} s, warming": (0, warm),
        f"the {seconds} s after": (warm, warm + seconds + 1),
        f"  of them the last {seconds // 3}": (warm + seconds * 2 // 3, warm + seconds + 1),
    }
    with (
        tempfile.TemporaryDirectory(prefix="mart-bench-") as home,
        pipeline(Path(home), console) as parts,
        parts.running("streaming", STREAMING_IS_READY, "run"),
    ):
        start = datetime.now(UTC)
        duration = ("--no-rhythm", "--duration", str(warm + seconds), "--no-progress")
        parts.run(f"{rate} for {warm + seconds} s", "live", "--rate", rate, *duration)
        wait_until_applied(parts.settings)
        with closing(psycopg2.connect(parts.settings.require_mart("owner"))) as owner, owner.cursor() as cursor:
            first = first_record(cursor, start)
            for name, window in windows.items():
                invoices, percentiles = latencies(cursor, first, *window)
                table.add(name, f"{invoices:,}", *(f"{ms:,.0f}" for ms in percentiles))
            cursor.execute(statement("bench/batches"), {"start": first, "after": warm})
            batches, mean = one_row(cursor)
    console.print(table)
    console.print(f"{batches:,} micro-batches after the warming, {mean:,.0f} invoices each on average")


if __name__ == "__main__":
    typer.run(main)
