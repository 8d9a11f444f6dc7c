"""Soak: the whole line under steady traffic for half an hour. Does anything grow that must not?

The embedded stack and the real job (apply and landing), after a shop's history. Each ten seconds: the memory of driver,
broker and PostgreSQL, the sizes and dead rows of the mart's tables, the checkpoint's files; at the end the latency of
each minute, and the mart against the lake. What grows with the data (invoices, moves, batches) is shown apart from what
must not grow once the shop's customers are known (their rows, cuts, totals, positions).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Annotated

import psutil
import psycopg2
import typer
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Console
from rich.table import Table

import stack
from bench.latency import wait_until_applied
from bench.soak_report import (
    CUSTOMER,
    FLAT_TABLES,
    GROWING_TABLES,
    MB,
    Minute,
    Sample,
    Soak,
    TableSize,
    Verdict,
    draw,
    memory_windows,
    verdicts,
    windows,
    within,
    write_csv,
)
from conf.settings import mart_home
from demo.pipeline import STREAMING_IS_READY, Pipeline, PipelineError, pipeline
from sql import one_row, statement
from stack import broker, database

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)

_HISTORY_DAYS = 90
_HISTORY_SECONDS = 1800  # at most, until it is applied
_INTERRUPTED = 130


def memory(processes: Sequence[psutil.Process]) -> tuple[float, float]:
    """Megabytes of these processes: their own, and their part of shared memory; where the system does not tell pages
    that are shared (PSS), all they hold."""
    own, shared = 0, 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            parts = _pss(process.pid)
            if parts is None:
                own += process.memory_info().rss
            else:
                own, shared = own + parts[0], shared + parts[1]
    return own / MB, shared / MB


def _pss(pid: int) -> tuple[int, int] | None:
    try:
        found = re.findall(r"^(Pss\w*):\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return None
    kilobytes = {name: int(value) for name, value in found}
    shared = kilobytes.get("Pss_Shmem", 0)
    return (kilobytes.get("Pss", 0) - shared) * 1024, shared * 1024


class Sampler:
    """Takes samples of a running pipeline. Raises PipelineError if a part of it is gone."""

    def __init__(self, parts: Pipeline, job: psutil.Process, cursor: Cursor) -> None:
        home = parts.home
        kafka, postgres = broker.running(home), database.running(home)
        if kafka is None or postgres is None:
            raise PipelineError(f"{'the broker' if kafka is None else 'PostgreSQL'} has ended, logs: {home / 'log'}")
        self._job, self._broker, self._postgres, self._cursor = job, kafka, postgres, cursor
        self._checkpoints = Path(parts.settings.checkpoints)
        self._start = time.monotonic()
        psutil.cpu_percent()

    def sample(self) -> Sample:
        """The pipeline as it is now."""
        try:
            return self._sample()
        except (psutil.NoSuchProcess, psycopg2.OperationalError) as error:
            raise PipelineError(f"a part of the pipeline has ended: {' '.join(str(error).split())}") from None

    def _sample(self) -> Sample:
        tree = [self._job, *self._job.children(recursive=True)]
        jvm = [p for p in tree if _name(p) == "java"]
        driver_jvm, _ = memory(jvm)
        driver_python, _ = memory([p for p in tree if p not in jvm])
        own, shared = memory([self._postgres, *self._postgres.children(recursive=True)])
        self._cursor.execute(statement("bench/database_size"))
        (size,) = one_row(self._cursor)
        self._cursor.execute(statement("bench/table_sizes"))
        tables = {name: TableSize(int(b) / MB, int(live), int(dead)) for name, b, live, dead in self._cursor}
        return Sample(
            seconds=round(time.monotonic() - self._start, 1),
            driver_jvm=driver_jvm,
            driver_python=driver_python,
            broker=memory([self._broker])[0],
            postgres=own,
            shared_buffers=shared,
            database=size / MB,
            checkpoint_files=sum(path.is_file() for path in self._checkpoints.rglob("*")),
            processor=psutil.cpu_percent() / 100 * (os.cpu_count() or 1),
            tables=tables,
        )


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


@app.command()
def main(
    minutes: Annotated[float, typer.Option(min=1, help="Minutes of traffic.")] = 30,
    rate: Annotated[str, typer.Option(help="Invoices in a time.")] = "1000/s",
    customers: Annotated[int, typer.Option(min=1, help="Customers of the shop.")] = 100_000,
    history: Annotated[
        int, typer.Option(min=0, help="Invoice lines of the shop's history, applied before; 0: none.")
    ] = 1_000_000,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two samples.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="Folder of samples.csv, tables.csv, latency.csv, soak.png and the job's log.")
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
    soak, verified, interrupted = Soak(minutes * 60), None, False
    with tempfile.TemporaryDirectory(prefix="mart-soak-", ignore_cleanup_errors=True) as home:
        try:
            with pipeline(Path(home), console) as parts:
                if history:
                    _fill_topic(parts, history, customers)
                with parts.running("streaming", STREAMING_IS_READY, "run") as job:
                    interrupted = _measure(parts, job, soak, rate, customers, every)
                    if not interrupted:
                        verified = _verified(parts)
        except KeyboardInterrupt:
            interrupted = True
        except (PipelineError, stack.StackError, SystemExit) as error:
            console.print(str(error), style="red", markup=False)
        finally:
            log = Path(home, "log", "streaming.log")
            if log.exists():
                shutil.copy(log, folder)
    if not soak.samples:
        raise typer.Exit(_INTERRUPTED if interrupted else 1)
    soak.seconds = min(soak.seconds, soak.samples[-1].seconds) or soak.samples[-1].seconds
    write_csv(soak, folder)
    draw(soak, folder / "soak.png")
    if plot:
        shutil.copy(folder / "soak.png", plot)
    judged = verdicts(soak)
    _show(soak, judged, folder)
    if interrupted:
        console.print("interrupted: this is what was measured until then")
        raise typer.Exit(_INTERRUPTED)
    if not (verified and all(v.is_met for v in judged)):
        raise typer.Exit(1)


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


def _measure(
    parts: Pipeline, job: subprocess.Popen[bytes], soak: Soak, rate: str, customers: int, every: float
) -> bool:
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
        sampler = Sampler(parts, psutil.Process(job.pid), cursor)
        try:
            _take_samples(parts, job, traffic, sampler, soak, every)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if traffic.poll() is None:
                traffic.terminate()
                traffic.wait(timeout=30)
        parts.check("streaming", job)
        with console.status("waiting until all is applied"):
            wait_until_applied(parts.settings)
        cursor.execute(statement("bench/first_record"), {"start": start})
        (first,) = one_row(cursor)
        seconds = min(soak.seconds, soak.samples[-1].seconds)
        cursor.execute(statement("bench/latency_by_minute"), {"start": first, "until": seconds})
        soak.minutes = [Minute(*row) for row in cursor.fetchall()]
        compared = []
        for after, until in windows(seconds):
            cursor.execute(statement("bench/latency"), {"start": first, "after": after, "until": until})
            invoices, percentiles = one_row(cursor)
            compared += [float(percentiles[2])] if invoices else []
        soak.p99 = (compared[0], compared[1]) if len(compared) == 2 else None
    return interrupted


def _take_samples(
    parts: Pipeline,
    job: subprocess.Popen[bytes],
    traffic: subprocess.Popen[bytes],
    sampler: Sampler,
    soak: Soak,
    every: float,
) -> None:
    begun = time.monotonic()
    with console.status("") as status:
        while True:
            now = sampler.sample()
            soak.samples.append(now)
            status.update(
                f"minute {now.seconds / 60:.1f} of {soak.seconds / 60:g}: driver {now.driver:,.0f} MB, "
                f"broker {now.broker:,.0f} MB, PostgreSQL {now.postgres:,.0f} MB, "
                f"{now.tables['invoice'].live:,} invoices, {now.processor:.1f} cores busy"
            )
            due = begun + len(soak.samples) * every
            while True:
                parts.check("streaming", job)
                if traffic.poll() is not None:
                    if traffic.returncode:
                        parts.check("traffic", traffic)
                    return
                if time.monotonic() >= due:
                    break
                time.sleep(0.2)


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
    (a, b), (c, d) = (tuple(at / 60 for at in window) for window in windows(soak.seconds))
    titles = (f"min {a:.1f}-{b:.1f}", f"min {c:.1f}-{d:.1f}")
    table = Table("minute", "invoices", "p50, ms", "p99, ms", title="latency, Kafka to the commit in PostgreSQL")
    for one in soak.minutes:
        table.add_row(f"{one.minute}", f"{one.invoices:,}", f"{one.p50:,.0f}", f"{one.p99:,.0f}")
    sizes = Table("table, MB", *titles, "dead rows", "dead rows", title="tables: size with indexes, dead rows")
    early, late = (within(soak.samples, window) for window in windows(soak.seconds))
    for name in (*FLAT_TABLES, CUSTOMER, *GROWING_TABLES):
        if not all(name in s.tables for s in (*early, *late)):
            continue
        megabytes = (f"{mean(s.tables[name].megabytes for s in window):,.2f}" for window in (early, late))
        dead = (f"{mean(s.tables[name].dead for s in window):,.0f}" for window in (early, late))
        sizes.add_row(name, *megabytes, *dead, end_section=name == FLAT_TABLES[-1])  # below it: grows with the data
    e, f = (at / 60 for at in memory_windows(soak.seconds)[0])
    title = f"verdicts (memory: from min {e:.1f}-{f:.1f} on); in brackets the slope from the first span on"
    found = Table("", *titles, "bound", "", title=title)
    for v in judged:
        found.add_row(v.what, v.early, v.late, v.bound, "[green]met[/]" if v.is_met else "[bold red]NOT met[/]")
    for one_table in (table, sizes, found):
        for column in one_table.columns[1:] if one_table is not found else one_table.columns[1:3]:
            column.justify = "right"
        console.print(one_table)
    last = soak.samples[-1]
    console.print(
        f"at the end: database {last.database:,.0f} MB, shared buffers {last.shared_buffers:,.0f} MB; "
        f"samples and picture in {folder}"
    )


if __name__ == "__main__":
    app(prog_name="python -m bench.soak")
