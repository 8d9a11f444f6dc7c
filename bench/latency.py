"""End-to-end latency: Kafka's record timestamp → committed in PostgreSQL, at a steady rate, on the whole line.

Producer, broker, Spark and database share this machine. The windows tell how warm the line is.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psycopg2
import typer
from rich.console import Console
from rich.table import Table

from conf.settings import Settings
from demo.pipeline import STREAMING_IS_READY, Pipeline, pipeline
from sql import one_row, statement

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)
_PATIENCE_SECONDS = 120


def traffic(parts: Pipeline, rate: str, seconds: float) -> tuple[datetime, int]:
    """Live traffic for so long, until all of it is applied; returns when it began and the invoices sent."""
    start = datetime.now(UTC)
    with console.status(f"{rate} for {seconds:g} s"):
        parts.run(
            "sending live traffic", "live",
            "--rate", rate, "--no-rhythm", "--duration", str(seconds), "--no-progress",
        )  # fmt: skip
        return start, wait_until_applied(parts.settings)


def wait_until_applied(current: Settings, patience_seconds: float = _PATIENCE_SECONDS) -> int:
    """Wait until the mart is at the topic's end; returns the records. Ends the program if that takes too long."""
    from kafka import KafkaConsumer, TopicPartition

    with (
        closing(KafkaConsumer(bootstrap_servers=current.require_kafka(), enable_auto_commit=False)) as consumer,
        closing(psycopg2.connect(current.require_mart("owner"))) as owner,
        owner.cursor() as cursor,
    ):
        owner.autocommit = True
        partitions = consumer.partitions_for_topic(current.kafka_topic) or set()
        ends = consumer.end_offsets([TopicPartition(current.kafka_topic, partition) for partition in partitions])
        deadline = time.monotonic() + patience_seconds
        while True:
            cursor.execute(statement("demo/positions"), {"topic": current.kafka_topic})
            if sum(position for _, position in cursor.fetchall()) >= sum(ends.values()):
                return int(sum(ends.values()))
            if time.monotonic() > deadline:
                raise SystemExit(f"not all records were applied within {patience_seconds:g} s after the traffic")
            time.sleep(0.2)


@app.command()
def main(
    rate: Annotated[str, typer.Option(help="Invoices in a time.")] = "1000/s",
    warm: Annotated[int, typer.Option(min=0, help="Seconds of traffic that warm the pipeline first.")] = 20,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of traffic that are measured.")] = 60,
) -> None:
    """Measure p50, p90, p99 and the maximum, milliseconds, over the measured seconds and in windows of them."""
    table = Table("window", "invoices", "p50", "p90", "p99", "max", title=f"end-to-end latency at {rate}, ms")
    for column in table.columns[1:]:
        column.justify = "right"
    with (
        tempfile.TemporaryDirectory(prefix="mart-bench-") as home,
        pipeline(Path(home), console) as parts,
        parts.running("streaming", STREAMING_IS_READY, "run"),
    ):
        start, _ = traffic(parts, rate, warm + seconds)
        with closing(psycopg2.connect(parts.settings.require_mart("owner"))) as owner, owner.cursor() as cursor:
            cursor.execute(statement("bench/first_record"), {"start": start})
            (first,) = one_row(cursor)
            for name, after, until in (
                (f"first {warm} s, warming", 0, warm),
                (f"the {seconds} s after", warm, warm + seconds + 1),
                (f"  of them the last {seconds // 3}", warm + seconds * 2 // 3, warm + seconds + 1),
            ):
                cursor.execute(statement("bench/latency"), {"start": first, "after": after, "until": until})
                invoices, percentiles = one_row(cursor)
                if invoices:
                    table.add_row(name, f"{invoices:,}", *(f"{value:,.0f}" for value in percentiles))
            cursor.execute(statement("bench/batches"), {"start": first, "after": warm})
            batches, mean = one_row(cursor)
    console.print(table)
    console.print(f"{batches:,} micro-batches after the warming, {mean:,.0f} invoices each on average")


if __name__ == "__main__":
    app(prog_name="python -m bench.latency")
