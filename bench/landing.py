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
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import psycopg2
import typer
from rich.console import Console
from rich.table import Table

import stack
from conf.settings import Settings
from mart.migrate import migrate
from sql import statement

console = Console(highlight=False)
_START_SECONDS = 180
_SETTLE_SECONDS = 10  # until the last invoices are applied
WAYS: dict[str, list[tuple[int, list[str]]]] = {
    "apply alone": [(0, ["--only", "apply"])],
    "landing in the same application": [(0, [])],
    "landing in a process of its own, nice 10": [(0, ["--only", "apply"]), (10, ["--only", "land"])],
}
"""Way → its processes: (niceness, options of `retail-mart run`)."""


@dataclass(frozen=True)
class Run:
    """One way for the measured time: `latency` of its invoices (their count; p50, p95, p99 and longest milliseconds
    from Kafka's timestamp to PostgreSQL's commit), `cores` that the streaming processes kept busy, what landed in
    that time in how many batches, and the seconds of the longest."""

    latency: tuple[int, float, float, float, float]
    cores: float
    landed_rows: int
    landed_batches: int
    longest_landing: float


@contextmanager
def streaming(
    environment: dict[str, str], niceness: int, options: list[str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`retail-mart run` once it reads, stopped at the end. Raises RuntimeError if it does not come up."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "run", *options],
            env=environment,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: os.nice(niceness),
        )
    try:
        queries = 1 if "--only" in options else 2
        deadline = time.monotonic() + _START_SECONDS
        while log.read_text().count('"event": "reading"') < queries:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the job did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def processor_seconds(processes: list[subprocess.Popen[bytes]]) -> float:
    """What these processes and their descendants, the ended ones too, have used so far."""
    used = 0.0
    for process in processes:
        parent = psutil.Process(process.pid)
        for one in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
    return used


def measure(home: Path, name: str, way: str, rate: str, warm_up: int, seconds: int, trigger: int) -> Run:
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
    traffic = ["--no-rhythm", "--no-progress", "--rate", rate, "--duration", str(warm_up + seconds)]
    logs = [home / f"{name}-{number}.log" for number in range(len(WAYS[way]))]
    with ExitStack() as running:
        jobs = [
            running.enter_context(streaming(environment, niceness, options, log))
            for (niceness, options), log in zip(WAYS[way], logs, strict=True)
        ]
        shop = subprocess.Popen(
            [sys.executable, "-m", "cli", "live", *traffic],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(warm_up)
        start, used = time.time(), processor_seconds(jobs)
        time.sleep(seconds)
        used = processor_seconds(jobs) - used
        if shop.wait(timeout=60) != 0:
            raise RuntimeError(f"the live traffic ended with {shop.returncode}")
        time.sleep(_SETTLE_SECONDS)
    with closing(psycopg2.connect(current.require_mart("owner"))) as connection, connection.cursor() as cursor:
        since = datetime.fromtimestamp(start, UTC)
        cursor.execute(statement("bench/apply_latency"), {"start": since, "seconds": seconds})
        latency = cursor.fetchall()[0]
    stack.delete_topic(current.require_kafka(), name)
    landed = [
        event
        for log in logs
        for event in events(log, "landed")
        if start <= datetime.fromisoformat(event["timestamp"]).timestamp() < start + seconds
    ]
    longest = max((sum(event["ms"].values()) / 1000 for event in landed), default=0)
    return Run(latency, used / seconds, sum(event["rows"] for event in landed), len(landed), longest)


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
    found: dict[str, list[Run]] = {way: [] for way in WAYS}
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
                    run = measure(home, name, way, rate, warm_up, seconds, trigger)
                    found[way].append(run)
                    console.print(f"round {round_number + 1}, {way}: {run}", style="dim", soft_wrap=True)
        finally:
            stack.down(home)
    console.print(f"Kafka → commit in PostgreSQL at {rate}, median of {rounds} x {seconds} s; landing each {trigger} s")
    table = Table("", *WAYS)
    for column in table.columns[1:]:
        column.justify = "right"
    alone = [statistics.median(run.latency[at] for run in found["apply alone"]) for at in range(5)]
    for at, label in enumerate(("p50, ms", "p95, ms", "p99, ms", "longest, ms"), 1):
        medians = [statistics.median(run.latency[at] for run in runs) for runs in found.values()]
        table.add_row(label, *(f"{ms:,.0f} ({ms / alone[at]:.2f} x)" for ms in medians))
    runs_of_ways = found.values()
    table.add_row("invoices", *(f"{sum(run.latency[0] for run in runs):,}" for runs in runs_of_ways))
    table.add_row("cores busy", *(f"{statistics.median(run.cores for run in runs):.2f}" for runs in runs_of_ways))
    table.add_row("rows landed", *(f"{sum(run.landed_rows for run in runs):,}" for runs in runs_of_ways))
    table.add_row("in batches", *(f"{sum(run.landed_batches for run in runs):,}" for runs in runs_of_ways))
    table.add_row("longest, s", *(f"{max(run.longest_landing for run in runs):.1f}" for runs in runs_of_ways))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
