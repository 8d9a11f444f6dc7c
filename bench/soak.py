"""Soak: the whole pipeline under steady traffic for half an hour. Does anything grow that must not?

The embedded stack and the real job (apply and landing), after a shop's history. Every ten seconds: the memory of
driver, broker and PostgreSQL, the sizes and dead rows of the mart's tables, the checkpoint's files; at the end the
latency of each minute, and the mart compared with the lake. What grows with the data (invoices, moves, batches) is
shown separately from what must not grow once the shop's customers are known (their rows, cuts, totals, next offsets).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import psutil
import psycopg2
import typer
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Console
from rich.text import Text

from bench.latency import first_record, latencies, wait_until_applied
from bench.soak_report import (
    MEMORY,
    Soak,
    Verdict,
    draw,
    memory_windows,
    verdicts,
    windows,
    write_csv,
)
from conf.errors import OperatorError
from conf.settings import mart_home
from conf.terminal import Table, number, prose
from demo.pipeline import STREAMING_IS_READY, Pipeline, PipelineError, pipeline
from sql import one_row, statement
from stack import broker, database
from stack.command import Command

console = Console(highlight=False, soft_wrap=True)
_HISTORY_DAYS = 90
_HISTORY_SECONDS = 1800  # at most, until it is applied
_INTERRUPTED = 130
_MB = 1_000_000


def memory(processes: Sequence[psutil.Process]) -> tuple[float, float]:
    """Megabytes of these processes: their own, and their part of shared memory; where the system does not tell pages
    that are shared (PSS), all they hold."""
    own, shared = 0, 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            try:
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            except OSError:
                own += process.memory_info().rss
            else:
                told = {k: 1024 * int(v) for k, v in re.findall(r"^(Pss\w*):\s+(\d+) kB$", rollup, re.MULTILINE)}
                in_shared = told.get("Pss_Shmem", 0)
                own, shared = own + told.get("Pss", 0) - in_shared, shared + in_shared
    return own / _MB, shared / _MB


def _sample(parts: Pipeline, job: psutil.Process, cursor: Cursor, seconds: float) -> dict[str, float]:
    """The pipeline as it is now (soak_report.Soak). Raises PipelineError if a part of it is gone."""
    try:
        home = parts.home
        kafka, postgres = broker.running(home), database.running(home)
        if kafka is None or postgres is None:
            raise PipelineError(f"{'the broker' if kafka is None else 'PostgreSQL'} has ended, logs: {home / 'log'}")
        tree = [job, *job.children(recursive=True)]
        jvm = [process for process in tree if process.name() == "java"]
        own, shared = memory([postgres, *postgres.children(recursive=True)])
        cursor.execute(statement("bench/database_size"))
        (size,) = one_row(cursor)
        cursor.execute(statement("bench/table_sizes"))
        tables = {
            f"{name} {what}": value
            for name, size_of_it, live, dead in cursor
            for what, value in (("MB", int(size_of_it) / _MB), ("rows", int(live)), ("dead", int(dead)))
        }
    except (psutil.NoSuchProcess, psycopg2.OperationalError) as error:
        raise PipelineError(f"a part of the pipeline has ended: {' '.join(str(error).split())}") from None
    return {
        "seconds": round(seconds, 1),
        "driver_jvm": memory(jvm)[0],
        "driver_python": memory([process for process in tree if process not in jvm])[0],
        "broker": memory([kafka])[0],
        "postgres": own,
        "shared_buffers": shared,
        "database": size / _MB,
        "checkpoint_files": sum(path.is_file() for path in Path(parts.settings.checkpoints).rglob("*")),
        "processor": psutil.cpu_percent() / 100 * (os.cpu_count() or 1),
        **tables,
    }


def main(
    minutes: Annotated[float, typer.Option(min=1, help="Minutes of traffic.")] = 30,
    rate: Annotated[str, typer.Option(help="Rate.")] = "1000/s",
    customers: Annotated[int, typer.Option(min=1, help="Customers of the shop.")] = 100_000,
    history: Annotated[
        int, typer.Option(min=0, help="Invoice lines of the shop's history, applied before; 0: none.")
    ] = 1_000_000,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two samples.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="Folder of samples.csv, latency.csv, soak.png and the job's log.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the picture here, too: docs/soak.png.")] = None,
) -> None:
    """Soak the pipeline and judge what grew: memory, tables, checkpoints, latency; then the mart against the lake.

    Ctrl-C ends the traffic, and what was measured until then is shown. Exit codes: 0 all is as it must be, 1 something
    grew or is wrong, 130 interrupted.
    """
    folder = output or mart_home() / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    soak, verified, interrupted = Soak(minutes * 60), False, False
    with tempfile.TemporaryDirectory(prefix="mart-soak-", ignore_cleanup_errors=True) as home:
        try:
            with pipeline(Path(home), console) as parts:
                if history:
                    _fill_topic(parts, history, customers)
                with parts.running("streaming", STREAMING_IS_READY, "run") as job:
                    interrupted = _measure(parts, job, soak, rate, customers, every)
                    verified = not interrupted and _verified(parts)
        except KeyboardInterrupt:
            interrupted = True
        except OperatorError as error:
            console.print(str(error), style="red", markup=False)
        finally:
            with suppress(FileNotFoundError):
                shutil.copy(Path(home, "log", "streaming.log"), folder)
    if soak.samples:
        soak.seconds = min(soak.seconds, soak.samples[-1]["seconds"]) or soak.samples[-1]["seconds"]
        write_csv(soak, folder)
        draw(soak, folder / "soak.png")
        if plot:
            shutil.copy(folder / "soak.png", plot)
        judged = verdicts(soak)
        _show(soak, judged, folder)
        verified = verified and all(v.is_met for v in judged)
    if interrupted:
        console.print("interrupted: this is what was measured until then")
        raise typer.Exit(_INTERRUPTED)
    raise typer.Exit(0 if verified else 1)


def _fill_topic(parts: Pipeline, lines: int, customers: int) -> None:
    """The shop's history of the last days on the topic: the job applies it first."""
    shop = str(parts.home / "shop")
    first = date.today() - timedelta(days=_HISTORY_DAYS)
    made = parts.run(
        "generating the shop's history", "generate", "--output", shop, "--lines", str(lines),
        "--days", str(_HISTORY_DAYS), "--start-date", str(first), "--customers", str(customers), "--no-progress",
    )  # fmt: skip
    console.print(made.strip())
    console.print(parts.run("filling the topic with it", "replay", shop, "--no-progress").strip())
    shutil.rmtree(shop)


def _measure(parts: Pipeline, job: Command, soak: Soak, rate: str, customers: int, every: float) -> bool:
    """Traffic and samples, then the latencies; True if it was interrupted. Raises PipelineError if a part ends."""
    with console.status("applying the history"):
        wait_until_applied(parts.settings, _HISTORY_SECONDS)
    interrupted = False
    with closing(psycopg2.connect(parts.settings.require_mart("owner"))) as owner, owner.cursor() as cursor:
        owner.autocommit = True
        start = datetime.now(UTC)
        traffic = parts.start(
            "traffic", "live", "--rate", rate, "--no-rhythm", "--no-progress",
            "--duration", str(soak.seconds), "--customers", str(customers),
        )  # fmt: skip
        try:
            _take_samples(parts, job, traffic, cursor, soak, every)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            traffic.end()
        job.check()
        with console.status("waiting until all is applied"):
            wait_until_applied(parts.settings)
        first, seconds = first_record(cursor, start), min(soak.seconds, soak.samples[-1]["seconds"])
        cursor.execute(statement("bench/latency_by_minute"), {"start": first, "until": seconds})
        soak.minutes = pd.DataFrame(cursor.fetchall(), columns=["minute", "invoices", "p50", "p99"])
        early, late = (latencies(cursor, first, *window)[1] for window in windows(seconds))
        soak.p99 = (float(early[2]), float(late[2])) if early and late else None
    return interrupted


def _take_samples(
    parts: Pipeline,
    job: Command,
    traffic: Command,
    cursor: Cursor,
    soak: Soak,
    every: float,
) -> None:
    begun = time.monotonic()
    psutil.cpu_percent()
    with console.status("") as status:
        while traffic.process.poll() is None:
            now = _sample(parts, psutil.Process(job.pid), cursor, time.monotonic() - begun)
            soak.samples.append(now)
            status.update(
                f"minute {now['seconds'] / 60:.1f} of {soak.seconds / 60:g}: "
                + ", ".join(f"{part} {now[part]:,.0f} MB" for part in MEMORY)
                + f", {now['invoice rows']:,} invoices, {now['processor']:.1f} cores busy"
            )
            while traffic.process.poll() is None and time.monotonic() < begun + len(soak.samples) * every:
                job.check()
                time.sleep(0.2)
    traffic.succeed()


def _verified(parts: Pipeline) -> bool:
    start = time.perf_counter()
    try:
        found = parts.run("verifying the mart against the lake", "verify")
    except PipelineError as error:
        console.print(str(error), markup=False)
        return False
    console.print(f"{found.strip()}\n(verify took {time.perf_counter() - start:.1f} s in all, beside the running job)")
    return True


def _show(soak: Soak, judged: Sequence[Verdict], folder: Path) -> None:
    columns = map(number, ("minute", "invoices", "p50, ms", "p99, ms"))
    latency = Table(*columns, title="Latency, Kafka to the commit in PostgreSQL")
    for one in soak.minutes.itertuples():
        latency.add(f"{one.minute}", f"{one.invoices:,}", f"{one.p50:,.0f}", f"{one.p99:,.0f}")
    spans = [f"min {begin / 60:.1f}-{end / 60:.1f}" for begin, end in windows(soak.seconds)]
    begin, end = memory_windows(soak.seconds)[0]
    title = f"Verdicts (memory: from min {begin / 60:.1f}-{end / 60:.1f} on); in brackets the slope from the first on"
    found = Table(prose("what"), *map(prose, spans), prose("bound"), "verdict", title=title)
    for v in judged:
        found.add(v.what, v.early, v.late, v.bound, Text("met", "green") if v.is_met else Text("NOT met", "bold red"))
    console.print(latency, found)
    last = soak.samples[-1]
    console.print(
        f"at the end: database {last['database']:,.0f} MB, shared buffers {last['shared_buffers']:,.0f} MB; "
        f"all samples, each table's size and dead rows among them, and the picture in {folder}"
    )


if __name__ == "__main__":
    typer.run(main)
