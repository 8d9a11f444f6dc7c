"""What landing costs apply: the latency from Kafka to the commit in PostgreSQL, with and without the lake beside it.

Each way gets the same live traffic on a topic of its own, one after another on the same servers, in an order that
turns round each time, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg2
import typer
from rich.console import Console
from rich.table import Table

import stack
from conf.settings import Settings
from sql import statement
from streaming.migrate import migrate

console = Console(highlight=False)
_START_SECONDS = 180
WAYS: dict[str, list[tuple[int, list[str]]]] = {
    "apply alone": [(0, ["--only", "apply"])],
    "landing in the same application": [(0, [])],
    "landing in a process of its own, nice 10": [(0, ["--only", "apply"]), (10, ["--only", "land"])],
}
"""Way → its processes: (niceness, options of `python -m streaming run`)."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from Kafka's timestamp to PostgreSQL's commit, of the invoices of the measured time; what landed
    in that time: batches, rows, and the seconds that a batch took."""

    invoices: int
    p50: float
    p95: float
    p99: float
    worst: float
    landed_batches: int
    landed_rows: int
    landing_seconds: float


@contextmanager
def streaming(environment: dict[str, str], niceness: int, options: list[str], log: Path) -> Iterator[None]:
    """`python -m streaming run` once it reads, stopped at the end. Raises RuntimeError if it does not come up."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streaming", "run", *options],
            env=environment,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: os.nice(niceness),
        )
    try:
        queries = 2 if not options else 1
        deadline = time.monotonic() + _START_SECONDS
        while log.read_text().count('"event": "reading"') < queries:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the job did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure(home: Path, name: str, way: str, rate: str, warm_up: int, seconds: int, trigger: int) -> Latency:
    """Run one way under live traffic; the measured time begins `warm_up` seconds after the first invoice."""
    current = Settings(mart_home=home)
    stack.ensure_topic(current.require_kafka(), name, 2)
    environment = {
        **os.environ,
        "MART_HOME": str(home),
        "KAFKA_TOPIC": name,
        "LAKE_PATH": str(home / "lakes" / name),
        "LANDING_TRIGGER_SECONDS": str(trigger),
        "LOG_FORMAT": "json",
    }
    logs = [home / f"{name}-{number}.log" for number in range(len(WAYS[way]))]
    with ExitStack() as running:
        for (niceness, options), log in zip(WAYS[way], logs, strict=True):
            running.enter_context(streaming(environment, niceness, options, log))
        start = datetime.now(UTC).timestamp() + warm_up
        subprocess.run(
            [sys.executable, "-m", "producer", "live", "--no-rhythm", "--no-progress"]
            + ["--rate", rate, "--duration", str(warm_up + seconds)],  # noqa: RUF005
            env=environment,
            check=True,
            capture_output=True,
        )
        time.sleep(10)  # until the last of them are applied
    since = datetime.fromtimestamp(start, UTC)
    with closing(psycopg2.connect(current.require_mart("owner"))) as connection, connection.cursor() as cursor:
        cursor.execute(statement("bench/apply_latency"), {"start": since, "seconds": seconds})
        latency = cursor.fetchall()[0]
    stack.delete_topic(current.require_kafka(), name)
    landed = [
        event
        for log in logs
        for event in events(log, "landed")
        if start <= datetime.fromisoformat(event["timestamp"]).timestamp() < start + seconds
    ]
    took = [sum(event["ms"].values()) / 1000 for event in landed]
    return Latency(*latency, len(landed), sum(e["rows"] for e in landed), max(took, default=0))


def events(log: Path, name: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def main(
    rate: Annotated[str, typer.Option(help="Live traffic, invoices in a time.")] = "1000/s",
    seconds: Annotated[int, typer.Option(min=1, help="Measured seconds of each way and round.")] = 60,
    warm_up: Annotated[int, typer.Option(min=0, help="Seconds of traffic before them.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is measured.")] = 3,
    trigger: Annotated[int, typer.Option(min=1, help="LANDING_TRIGGER_SECONDS.")] = 20,
) -> None:
    """Apply's latency without landing, with landing in the same application, and in a process of its own."""
    found: dict[str, list[Latency]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="bench-landing-") as folder:
        home = Path(folder)
        stack.up(home)
        try:
            os.environ["MART_HOME"] = str(home)  # where the settings find the servers' addresses
            with closing(psycopg2.connect(Settings().require_mart("owner"))) as connection:
                migrate(connection)
            for round_number in range(rounds):
                ways = list(WAYS) if round_number % 2 == 0 else list(reversed(WAYS))
                for way in ways:
                    name = f"bench-{round_number}-{list(WAYS).index(way)}"
                    latency = measure(home, name, way, rate, warm_up, seconds, trigger)
                    found[way].append(latency)
                    console.print(f"round {round_number + 1}, {way}: {latency}", style="dim")
        finally:
            stack.down(home)
    table = Table(
        "way", "invoices", "p50, ms", "p95, ms", "p99, ms", "worst, ms", "p50, times alone", "p99, times alone",
        "landed", "longest landing, s",
        title=f"Kafka → commit in PostgreSQL at {rate}, median of {rounds} x {seconds} s; the lake lands each {trigger} s",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    alone = [statistics.median(getattr(run, p) for run in found["apply alone"]) for p in ("p50", "p99")]
    for way, runs in found.items():
        p50, p95, p99, worst = (
            statistics.median(getattr(run, p) for run in runs) for p in ("p50", "p95", "p99", "worst")
        )
        table.add_row(
            way,
            f"{sum(run.invoices for run in runs):,}",
            *(f"{value:,.0f}" for value in (p50, p95, p99, worst)),
            f"{p50 / alone[0]:.2f}",
            f"{p99 / alone[1]:.2f}",
            f"{sum(run.landed_rows for run in runs):,} in {sum(run.landed_batches for run in runs)}",
            f"{max(run.landing_seconds for run in runs):.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
