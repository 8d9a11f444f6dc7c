"""The guided run: a shop, a real Kafka, a real Spark job, a real PostgreSQL; then the proof."""

from __future__ import annotations

import os
import re
import time
import webbrowser
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.live import Live

from conf.kafka import Brokers
from conf.settings import mart_home
from conf.terminal import Table, number
from demo.pipeline import STREAMING_IS_READY, Pipeline, PipelineError, pipeline
from demo.recompute import Comparison, compare, read_lines, recompute, split_unsendable
from demo.watch import Screen, Snapshot, Watcher, one_line
from jvm.jars import broker_classpath, spark_jars
from mart.connection import connect_plainly
from sql import one_row, statement
from stack.command import Command

console = Console(highlight=False, soft_wrap=True)
_REFRESH_SECONDS = 0.5
_PLAIN_LINE_SECONDS = 5
_QUIET_SECONDS = 120
_JOB = "streaming"
_APPLICATION = "retail-mart demo"
_PAGE_IS_READY = r"live page: (\S+)"
_WINDOW_DAYS = 90


def demo(data: Path | None, days: int, rate: str, browser: bool, keep: bool) -> bool:
    """Show it all, on the files of `data` or of a shop made up; whether the mart equals a recompute of the files.

    Raises PipelineError, StackError, SettingsError, JavaNotFoundError, JarDownloadError.
    """
    home = mart_home() / "demo"
    variables = {"LANDING_TRIGGER_SECONDS": os.environ.get("LANDING_TRIGGER_SECONDS", "5")}  # a demo is not long
    try:
        spark_jars(), broker_classpath()  # downloaded once, with a word about it, before anything waits for them
        with pipeline(home, console, keep, variables) as parts:
            folder = data or _generated(parts, days)
            with parts.running("live page", _PAGE_IS_READY, "page"):
                _show_page(parts.log("live page").read_text(), browser)
                with parts.running(_JOB, STREAMING_IS_READY, "run") as job:
                    seconds, last = _replay_and_watch(parts, job, folder, rate)
                    verified = parts.run("verifying the mart against the lake", "verify", "--wait", "120")
                console.print(verified.strip())
                rules = parts.run(
                    "mining what sells together", "mine", "--business-date", "newest",
                    "--window", f"{_WINDOW_DAYS}d",
                )  # fmt: skip
                console.print(f"\nTonight's rules, of the newest {_WINDOW_DAYS} business dates\n{rules.strip()}")
                _recommend(parts)
            comparison, unsendable, recompute_seconds = _prove(parts, folder)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        raise
    _summary(comparison, last, seconds, unsendable, recompute_seconds)
    if keep:
        console.print(f"Kafka and PostgreSQL run on; look again with: MART_HOME={home} retail-mart page")
    return comparison.equal and unsendable == _rejected_lines(home)


def _show_page(log: str, browser: bool) -> None:
    found = re.search(_PAGE_IS_READY, log)
    assert found is not None  # noqa: S101
    console.print(f"[bold]live page: {found[1]}[/] (segments move on it within a second)")
    if browser:
        webbrowser.open(found[1])


def _recommend(parts: Pipeline) -> None:
    """What goes with the product that leads the strongest rule."""
    with (
        closing(connect_plainly(parts.settings.require_mart("reader"), _APPLICATION)) as reader,
        reader.cursor() as cursor,
    ):
        cursor.execute(statement("demo/leading_product"))
        code, name = one_row(cursor)
    found = parts.run("asking for a recommendation", "recommend", code, "-n", "3")
    console.print(f"Customers who buy {name} ({code}) also take\n{found.strip()}", markup=False)


def _generated(parts: Pipeline, days: int) -> Path:
    folder = parts.home / "shop"
    made = parts.run(
        "generating the shop", "generate",
        "--days", str(days), "--output", str(folder), "--overwrite", "--no-progress",
    )  # fmt: skip
    console.print(f"generated a shop: {made.strip()}")
    return folder


def _replay_and_watch(parts: Pipeline, job: Command, folder: Path, rate: str) -> tuple[float, Snapshot]:
    """Replay the folder while the table moves; returns the seconds until all was applied and the last snapshot."""
    start = time.monotonic()
    replay = parts.start(
        "replay", "replay", str(folder),
        "--rate", rate, "--no-progress", "--rejects", str(_rejects(parts.home)),
    )  # fmt: skip
    owner = connect_plainly(parts.settings.require_mart("owner"), _APPLICATION)
    watcher = Watcher(owner, Brokers.of(parts.settings), parts.settings.kafka_topic)
    screen, quiet_since, measured = Screen(), time.monotonic(), None
    try:
        with closing(owner), Live(console=console, auto_refresh=False, transient=False) as live:
            next_line = 0.0
            while True:
                ended = replay.process.poll()  # before the snapshot: its lag is then the lag of all that was sent
                now = watcher.snapshot(time.monotonic() - start)
                if console.is_terminal:
                    live.update(screen.draw(now), refresh=True)
                elif now.at >= next_line:
                    console.print(f"{now.at:6.1f} s  {one_line(now)}")
                    next_line = now.at + _PLAIN_LINE_SECONDS
                if measured is None or now.p50 is not None:
                    measured = now
                job.check()
                if ended:
                    replay.check()
                if ended == 0 and now.lag == 0:
                    break
                quiet_since = time.monotonic() if ended is None else quiet_since
                if time.monotonic() - quiet_since > _QUIET_SECONDS:
                    raise PipelineError(f"{now.lag} records are still not applied, log: {parts.log(_JOB)}")
                time.sleep(_REFRESH_SECONDS)
        seconds = time.monotonic() - start
    finally:
        watcher.close()
        replay.end()
    console.print(replay.text().strip())
    # When the last batch is in, the latencies' window may be empty: those of the last full one stand.
    return seconds, replace(now, p50=measured.p50, p99=measured.p99)


def _prove(parts: Pipeline, folder: Path) -> tuple[Comparison, int, float]:
    with console.status("recomputing every customer from the CSV files with DuckDB"):
        start = time.perf_counter()
        lines, unsendable = split_unsendable(read_lines(folder))
        expected = recompute(lines)
        seconds = time.perf_counter() - start
        with (
            closing(connect_plainly(parts.settings.require_mart("owner"), _APPLICATION)) as owner,
            owner.cursor() as cursor,
        ):
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
    table = Table("what", number("found"), title="The mart against a batch recompute of the CSV files", headed=False)
    table.add("invoices applied", f"{last.invoices:,}")
    table.add("records rejected", f"{last.rejected:,}")
    table.add("CSV lines that no event can carry", f"{unsendable:,}")
    table.add("replay until all applied", f"{seconds:,.1f} s")
    if last.p50 is not None and last.p99 is not None:
        table.add("latency at the end, p50 / p99", f"{last.p50:,.0f} / {last.p99:,.0f} ms")
    table.add("recompute with DuckDB", f"{recompute_seconds:,.1f} s")
    table.add("customers compared", f"{comparison.customers:,}")
    table.add("missing in the mart", f"{len(comparison.missing):,}")
    table.add("unexpected in the mart", f"{len(comparison.unexpected):,}")
    table.add("differing values", f"{len(comparison.different):,}")
    console.print(table)
    if comparison.equal:
        console.print("[bold green]equal[/]: every customer, every column, to the cent")
    else:
        console.print("[bold red]NOT equal[/]; the first differences:")
        console.print(comparison.different.head(10).to_string(index=False))
        console.print(f"missing: {list(comparison.missing)[:5]}, unexpected: {list(comparison.unexpected)[:5]}")
