"""The guided run: a shop, a real Kafka, a real Spark job, a real PostgreSQL; then the proof."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
import webbrowser
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.live import Live

from conf.counted import counted
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

console = Console(highlight=False)
_REFRESH_SECONDS = 0.5
_PLAIN_LINE_SECONDS = 5
_QUIET_SECONDS = 120
_JOB = "streaming"
_APPLICATION = "retail-mart demo"
_PAGE_IS_READY = r"live page: (\S+)"


def demo(data: Path | None, days: int, rate: str, browser: bool, keep: bool) -> bool:
    """Show it all, on the files of `data` or of a generated shop; whether the mart equals a recompute of the files.

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
                _print(verified)
                rules = parts.run("mining what sells together", "mine", "--business-date", "newest")
                _print(f"\nTonight's association rules\n{rules}")
                _recommend(parts)
            proof = _prove(parts, folder)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        raise
    _summary(proof, last, seconds)
    _what_next(home, proof.example, keep)
    return proof.comparison.equal and proof.unsendable == _rejected_lines(home)


def _print(text: str) -> None:
    """What a command said, which is laid out for our terminal already."""
    console.print(text.rstrip(), markup=False, soft_wrap=True)


def _show_page(log: str, browser: bool) -> None:
    found = re.search(_PAGE_IS_READY, log)
    assert found is not None  # noqa: S101
    console.print(f"[bold]live page: {found[1]}[/]  (it ends with the demo)")
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
    _print(f"Customers who buy {name} ({code}) also buy\n{found}")


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
    screen, quiet_since, measured = Screen(parts.settings.currency), time.monotonic(), None
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
                    raise PipelineError(f"{counted(now.lag, 'record')} still not applied, log: {parts.log(_JOB)}")
                time.sleep(_REFRESH_SECONDS)
        seconds = time.monotonic() - start
    finally:
        watcher.close()
        replay.end()
    console.print(replay.text().strip(), markup=False)
    # When the last batch is in, the latencies' window may be empty: those of the last full one stand.
    return seconds, replace(now, p50=measured.p50, p99=measured.p99)


@dataclass(frozen=True)
class Proof:
    """How the mart compares with a recompute of the files, of which so many lines no event can carry; `example`: the
    customer who spent most, if there is any."""

    comparison: Comparison
    unsendable: int
    seconds: float
    example: str | None


def _prove(parts: Pipeline, folder: Path) -> Proof:
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
        example = None if mart.empty else str(mart.sort_values("monetary").index[-1])
        return Proof(compare(mart, expected), unsendable, seconds, example)


def _rejects(home: Path) -> Path:
    return home / "rejected_lines.csv"


def _rejected_lines(home: Path) -> int:
    path = _rejects(home)
    return max(0, len(pd.read_csv(path, dtype=str))) if path.exists() and path.stat().st_size else 0


def _summary(proof: Proof, last: Snapshot, seconds: float) -> None:
    comparison = proof.comparison
    table = Table("what", number("found"), title="The mart against a batch recompute of the CSV files", headed=False)
    table.add("invoices applied", f"{last.invoices:,}")
    table.add("records quarantined", f"{last.rejected:,}")
    table.add("CSV lines that do not fit an event", f"{proof.unsendable:,}")
    table.add("replay until all applied", f"{seconds:,.1f} s")
    if last.p50 is not None and last.p99 is not None:
        table.add("latency at the end, p50 / p99", f"{last.p50:,.0f} / {last.p99:,.0f} ms")
    table.add("recompute with DuckDB", f"{proof.seconds:,.1f} s")
    table.add("customers compared", f"{comparison.customers:,}")
    table.add("missing in the mart", f"{len(comparison.missing):,}")
    table.add("unexpected in the mart", f"{len(comparison.unexpected):,}")
    table.add("different values", f"{len(comparison.different):,}")
    console.print(table)
    if comparison.equal:
        console.print("[bold green]equal[/]: every customer, every column, to the cent")
    else:
        console.print("[bold red]NOT equal[/]; the first differences:")
        console.print(comparison.different.head(10).to_string(index=False))
        console.print(f"missing: {list(comparison.missing)[:5]}, unexpected: {list(comparison.unexpected)[:5]}")


def _what_next(home: Path, example: str | None, keep: bool) -> None:
    """What of it is left, and the commands that show it."""
    program = _as_typed()
    commands = [
        (f"export MART_HOME={shlex.quote(str(home))}", ""),
        (f"{program} up", "Kafka and PostgreSQL again"),
        (f"{program} page", "the live page, until Ctrl-C"),
        (f"{program} explain {shlex.quote(example or 'CUSTOMER')}", "why a customer is in their segment"),
        (f"{program} down", "stop them; the data is kept"),
    ]
    if keep:
        del commands[1]
        ended = "The live page has ended with the demo; Kafka and PostgreSQL are still running."
    else:
        ended = "The live page, Kafka and PostgreSQL have ended with the demo; its data is kept."
    console.print(f"\n{ended}\nWhat next:")
    width = max(len(command) for command, what in commands if what)
    for command, what in commands:
        _print(f"  {command:{width}}" + (f"  # {what}" if what else ""))
    if not keep:
        console.print("`make demo ARGS=--keep` leaves Kafka and PostgreSQL running.")


def _as_typed() -> str:
    """Our own script, as it is called from this folder."""
    script = Path(sys.executable).with_name("retail-mart")
    if shutil.which("retail-mart") == str(script):
        return "retail-mart"
    return os.path.relpath(script) if script.exists() else f"{os.path.relpath(sys.executable)} -m cli"
