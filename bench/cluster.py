"""Cluster: parse throughput of a standalone Spark cluster with one executor and with two, with one core each."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from rich.console import Console

from conf.settings import settings
from conf.terminal import Table, number
from jvm.session import spark_session
from stack.spark import standalone_cluster
from streaming.apply_job import cleaning
from streaming.executors import collect
from streaming.warm_up import RECORD_COLUMNS, RECORDS, example_invoice

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_PARTITIONS = 4


@app.command()
def main(
    invoices: Annotated[int, typer.Option(min=1000, help="Invoices of 4 lines, held in the executors' memory.")] = (
        100_000
    ),
    rounds: Annotated[
        int, typer.Option(min=2, help="Times each; the first warms up, the median of the rest counts.")
    ] = 5,
) -> None:
    """Parse, clean and collect the same records with 1 and with 2 executors; no Kafka, no PostgreSQL."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    load = os.getloadavg()[0]
    columns = map(number, ("executors", "seconds", "lines/s", "times"))
    table = Table(*columns, title=f"Parse and clean of {invoices * 4:,} lines")
    first = None
    for executors in (1, 2):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # one cluster a Java process
            seconds = fresh.submit(_median_seconds, executors, invoices, rounds).result()
        first = first or seconds
        table.add(f"{executors}", f"{seconds:.2f}", f"{invoices * 4 / seconds:,.0f}", f"{first / seconds:.2f}")
    Console(highlight=False).print(table, f"{os.cpu_count()} cores, load before the start {load:.1f}")


def _median_seconds(executors: int, invoices: int, rounds: int) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="mart-bench-") as folder,
        standalone_cluster(Path(folder), executors) as cluster,
    ):
        current = settings().model_copy(
            update={"spark_master": cluster.master, "spark_executor_memory": "900m", "mart_home": Path(folder)}
        )
        spark = spark_session("retail-mart bench", current)
        try:
            now = datetime.now(UTC)
            few = spark.createDataFrame(
                [(example_invoice(n, now), n % 2, n, now) for n in range(RECORDS)], RECORD_COLUMNS
            )
            copies = spark.range(0, invoices // RECORDS, 1, _PARTITIONS)
            records = copies.crossJoin(F.broadcast(few)).drop("id").cache()
            records.count()
            taken = [_seconds(records) for _ in range(rounds)]
        finally:
            spark.stop()
    return statistics.median(taken[1:])


def _seconds(records: DataFrame) -> float:
    step = cleaning(settings())
    start = time.perf_counter()
    collect(records, step)
    return time.perf_counter() - start


if __name__ == "__main__":
    app(prog_name="python -m bench.cluster")
