"""Catch-up: how long the job takes to apply a topic that is full already, whole process and once warm."""

from __future__ import annotations

import re
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import psycopg2
import typer
from rich.console import Console
from rich.table import Table

from conf.settings import settings
from demo.line import line
from sql import one_row, statement

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def main(
    lines: Annotated[int, typer.Option(min=1, help="Invoice lines on the topic.")] = 1_000_000,
    max_invoices_per_batch: Annotated[
        int | None, typer.Option(min=1, help="As for `python -m streaming run`.", show_default=False)
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="apply", help="apply: without landing beside it.", show_default=False)
    ] = None,
) -> None:
    """Fill a topic, then time `python -m streaming run --available-now` from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="mart-bench-") as folder, line(Path(folder), console) as parts:
        shop = str(Path(folder, "shop"))
        parts.run("generating", "producer", "generate", "--lines", str(lines), "--output", shop, "--no-progress")
        sent = parts.run("filling the topic", "producer", "replay", shop, "--no-progress")
        console.print(sent.strip())
        options = [] if max_invoices_per_batch is None else ["--max-invoices-per-batch", str(max_invoices_per_batch)]
        options += [] if only is None else ["--only", only]
        start = time.perf_counter()
        parts.run("catching up", "streaming", "run", "--available-now", *options)
        whole = time.perf_counter() - start
        with closing(psycopg2.connect(settings().require_mart("owner"))) as owner, owner.cursor() as cursor:
            cursor.execute(statement("bench/catch_up"))
            batches, all_lines, warm_lines, warm_seconds = one_row(cursor)
    in_all = int(re.sub(r"\D", "", re.search(r"\(([\d,]+) lines\)", sent)[1]))  # type: ignore[index]
    if all_lines != in_all:
        raise SystemExit(f"{in_all:,} lines were sent, {all_lines:,} are in the mart")
    table = Table("", "lines", "seconds", "lines/s", title=f"catch-up of {in_all:,} lines in {batches} micro-batches")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count, seconds in (
        ("whole process, Spark's start and end included", all_lines, whole),
        ("once warm: after the first micro-batch", warm_lines, float(warm_seconds)),
    ):
        if seconds:
            table.add_row(name, f"{count:,}", f"{seconds:,.1f}", f"{count / seconds:,.0f}")
    console.print(table)


if __name__ == "__main__":
    app(prog_name="python -m bench.catch_up")
