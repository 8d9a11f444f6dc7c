"""The guided run: a shop, a real Kafka, a real Spark job, a real PostgreSQL; then the proof."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import psycopg2
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

import stack
from conf.settings import Settings, SettingsError, mart_home, settings
from demo.recompute import Comparison, compare, read_lines, recompute, split_unsendable
from demo.watch import Screen, Snapshot, Watcher, one_line
from sql import statement

console = Console(highlight=False)
_REFRESH_SECONDS = 0.5
_PLAIN_LINE_SECONDS = 5
_QUIET_SECONDS = 120


class DemoError(Exception):
    """The run cannot go on; the message says what failed and where its log is."""


def main(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of your own daily CSV files (this generator's, or UCI Online Retail's columns)."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days of the generated shop, 500 invoices each.")] = 45,
    rate: Annotated[str, typer.Option(help="Replay speed, invoices in a time: 500/s.")] = "500/s",
    keep: Annotated[bool, typer.Option("--keep", help="Leave Kafka and PostgreSQL running at the end.")] = False,
) -> None:
    """Generate a shop, stream it through Kafka and Spark into PostgreSQL, watch segments move, prove the result.

    Everything lives in MART_HOME/demo, made anew by each run. Exit code 0 only if the mart equals a batch recompute
    of the CSV files, every customer and every cent.
    """
    home = mart_home() / "demo"
    environment = _environment(home)
    try:
        with _servers(home, keep):
            current = settings()
            _run(environment, "migrating the mart", "streaming", "migrate")
            folder = data or _generated(environment, home, days)
            with _job(environment, home) as job:
                seconds, last = _replay_and_watch(environment, current, job, folder, rate, home)
            comparison, unsendable, recompute_seconds = _prove(current, folder)
    except (DemoError, SettingsError, stack.StackError, FileNotFoundError) as error:
        console.print(f"[red]{error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        raise typer.Exit(130) from None
    _summary(comparison, last, seconds, unsendable, recompute_seconds)
    if keep:
        console.print(f"Kafka and PostgreSQL run on: MART_HOME={home} python -m stack status")
    if not comparison.equal or unsendable != _rejected_lines(home):
        raise typer.Exit(1)


def _environment(home: Path) -> dict[str, str]:
    """The demo has its own servers: what the environment says of others does not reach its commands."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "KAFKA_TOPIC"):
        os.environ.pop(name, None)
    os.environ["MART_HOME"] = str(home)
    os.environ.setdefault("RETURNS_POLICY", "ignore")
    return dict(os.environ)


@contextmanager
def _servers(home: Path, keep: bool) -> Iterator[None]:
    stack.reset(home)
    with console.status("starting Kafka and PostgreSQL"):
        start = time.perf_counter()
        state = stack.up(home)
        settings.cache_clear()  # it was read before the servers had addresses
        current = settings()
        stack.ensure_topic(current.require_kafka(), current.kafka_topic, current.kafka_topic_partitions)
    console.print(
        f"Kafka at {state.kafka_bootstrap_servers} and PostgreSQL are up ({time.perf_counter() - start:.1f} s)"
    )
    try:
        yield
    finally:
        if not keep:
            with console.status("stopping Kafka and PostgreSQL"):
                stack.down(home)


def _run(environment: dict[str, str], doing: str, module: str, *arguments: str) -> None:
    with console.status(doing):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise DemoError(f"{doing} failed (`python -m {module} {' '.join(arguments)}`):\n{done.stderr or done.stdout}")


def _generated(environment: dict[str, str], home: Path, days: int) -> Path:
    folder = home / "shop"
    _run(
        environment, "generating the shop", "producer", "generate",
        "--days", str(days), "--output", str(folder), "--overwrite", "--no-progress",
    )  # fmt: skip
    console.print(f"generated {days} days of a shop in {folder}")
    return folder


@contextmanager
def _job(environment: dict[str, str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The streaming job, warm and reading; stopped cleanly at the end."""
    log = home / "log" / "streaming.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("wb") as out:
        job = subprocess.Popen(
            [sys.executable, "-m", "streaming", "run"], env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        with console.status("starting Spark and warming it up"):
            while " reading " not in log.read_text(errors="replace"):
                if job.poll() is not None:
                    raise DemoError(f"the streaming job ended:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.1)
        console.print(f"the streaming job is reading ({time.perf_counter() - start:.1f} s), log: {log}")
        yield job
        job.send_signal(signal.SIGTERM)
        if job.wait(timeout=60):
            raise DemoError(f"the streaming job ended with {job.returncode}, log: {log}")
    finally:
        if job.poll() is None:
            job.kill()
            job.wait()


def _replay_and_watch(
    environment: dict[str, str], current: Settings, job: subprocess.Popen[bytes], folder: Path, rate: str, home: Path
) -> tuple[float, Snapshot]:
    """Replay the folder while the table moves; returns the seconds until all was applied and the last snapshot."""
    start = time.monotonic()
    log = home / "log" / "replay.log"
    with log.open("wb") as out:
        replay = subprocess.Popen(
            [
                sys.executable, "-m", "producer", "replay", str(folder),
                "--rate", rate, "--no-progress", "--rejects", str(_rejects(home)),
            ],
            env=environment, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    owner = psycopg2.connect(current.require_mart("owner"))
    watcher = Watcher(owner, current.require_kafka(), current.kafka_topic)
    screen, quiet_since, best = Screen(), time.monotonic(), None
    try:
        with closing(owner), Live(console=console, auto_refresh=False, transient=False) as live:
            next_line = 0.0
            while True:
                now = watcher.snapshot(time.monotonic() - start)
                if console.is_terminal:
                    live.update(screen.draw(now), refresh=True)
                elif now.at >= next_line:
                    console.print(f"{now.at:6.1f} s  {one_line(now)}")
                    next_line = now.at + _PLAIN_LINE_SECONDS
                if now.p50 is not None:
                    best = now
                if job.poll() is not None:
                    raise DemoError(f"the streaming job ended with {job.returncode}, log: {home / 'log'}")
                if replay.poll() not in (None, 0):
                    raise DemoError(f"the replay failed:\n{log.read_text(errors='replace')[-3000:]}")
                if replay.poll() == 0 and now.lag == 0:
                    break
                quiet_since = time.monotonic() if replay.poll() is None else quiet_since
                if time.monotonic() - quiet_since > _QUIET_SECONDS:
                    raise DemoError(f"{now.lag} records are still not applied, log: {home / 'log'}")
                time.sleep(_REFRESH_SECONDS)
        seconds = time.monotonic() - start
    finally:
        watcher.close()
        if replay.poll() is None:
            replay.terminate()
            replay.wait(timeout=30)
    console.print(log.read_text(errors="replace").strip())
    return seconds, (best and _with_counts(best, now)) or now


def _with_counts(best: Snapshot, last: Snapshot) -> Snapshot:
    """The last counts with the last latencies that were measured."""
    return Snapshot(
        last.at, last.invoices, last.rejected, last.duplicates, last.lag, last.newest_invoice_date, best.p50, best.p99,
        last.segments,
    )  # fmt: skip


def _prove(current: Settings, folder: Path) -> tuple[Comparison, int, float]:
    with console.status("recomputing every customer from the CSV files with DuckDB"):
        start = time.perf_counter()
        lines, unsendable = split_unsendable(read_lines(folder))
        expected = recompute(lines)
        seconds = time.perf_counter() - start
        with closing(psycopg2.connect(current.require_mart("owner"))) as owner, owner.cursor() as cursor:
            cursor.execute(statement("demo/customers"))
            names = [column.name for column in cursor.description or ()]
            mart = pd.DataFrame(cursor.fetchall(), columns=names).set_index("customer_id").sort_index()
        return compare(mart, expected), unsendable, seconds


def _rejects(home: Path) -> Path:
    return home / "rejected_lines.csv"


def _rejected_lines(home: Path) -> int:
    path = _rejects(home)
    return max(0, len(pd.read_csv(path, dtype=str))) if path.exists() and path.stat().st_size else 0


def _summary(comparison: Comparison, last: Snapshot, seconds: float, unsendable: int, recompute_seconds: float) -> None:
    table = Table(title="The mart against a batch recompute of the CSV files", title_justify="left", show_header=False)
    table.add_row("invoices applied", f"{last.invoices:,}")
    table.add_row("records rejected", f"{last.rejected:,}")
    table.add_row("CSV lines that no event can carry", f"{unsendable:,}")
    table.add_row("replay until all applied", f"{seconds:,.1f} s")
    if last.p50 is not None and last.p99 is not None:
        table.add_row("latency at the end, p50 / p99", f"{last.p50:,.0f} / {last.p99:,.0f} ms")
    table.add_row("recompute with DuckDB", f"{recompute_seconds:,.1f} s")
    table.add_row("customers compared", f"{comparison.customers:,}")
    table.add_row("missing in the mart", f"{len(comparison.missing):,}")
    table.add_row("unexpected in the mart", f"{len(comparison.unexpected):,}")
    table.add_row("differing values", f"{len(comparison.different):,}")
    console.print(table)
    if comparison.equal:
        console.print("[bold green]equal[/]: every customer, every column, to the cent")
    else:
        console.print("[bold red]NOT equal[/]; the first differences:")
        console.print(comparison.different.head(10).to_string(index=False))
        console.print(f"missing: {list(comparison.missing)[:5]}, unexpected: {list(comparison.unexpected)[:5]}")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app(prog_name="python -m demo")
