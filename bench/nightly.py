"""The nightly job: ours from the lake beside a batch over all CSV files that overwrites its tables.

Whole processes, Spark's start included. The batch also works out the customers, which ours finds current in the mart:
the stream keeps them so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pandas as pd
import psycopg2
import pyarrow as pa

from bench.memory import PeakMemory
from bench.oracle import customers_of, wrong
from bench.results import OURS, Row
from bench.rules import differs, measured
from bench.servers import Servers
from demo.recompute import read_lines, recompute, split_unsendable
from sql import statement

BATCH = "Spark, from CSV, tables overwritten"


def nightly(
    servers: Servers,
    name: str,
    data: Path,
    lake: str,
    window_days: int,
    support: Decimal,
    max_items: int,
    say: Callable[[str], None],
) -> list[Row]:
    """Two rows: seconds, rules, peak_mb. The rules must be the same, and the batch's customers those that DuckDB
    recomputes from the files, to the cent."""
    case = f"{name}, support {support}, sets of at most {max_items}"
    with servers.fresh_database("nightly") as place:
        environment = servers.environment(place, "none") | {"LAKE_PATH": lake}
        asked = {"--support": str(support), "--confidence": "0.05", "--max-items": str(max_items)}
        options = [word for pair in asked.items() for word in pair]
        seconds, memory = _timed(
            ["cli", "mine", "--business-date", "newest", "--window", f"{window_days}d", *options], environment
        )
        ours = _rules(place.owner_dsn, "bench/rules_mart")
        rows = [Row(case, OURS, {"seconds": seconds, "rules": ours.num_rows, "peak_mb": memory})]
        seconds, memory = _timed(
            ["bench.peers.nightly_batch", str(data), place.owner_dsn, *asked.values()],
            environment,
        )
        theirs = _rules(place.owner_dsn, "bench/rules_overwritten")
        difference = differs(theirs, ours) or wrong(
            customers_of(place.owner_dsn, "bench/customers_overwritten"),
            recompute(split_unsendable(read_lines(data))[0]),
        )
        figures = {"seconds": seconds, "rules": theirs.num_rows, "peak_mb": memory}
        rows.append(Row(case, BATCH, wrong=difference) if difference else Row(case, BATCH, figures))
    for row in rows:
        say(f"nightly, {case}, {row.way}: {row.wrong or dict(row.figures)}")
    return rows


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with PeakMemory([process.pid]) as memory:
        said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"python -m {command[0]} ended with {process.returncode}: {said[-2000:]}")
    return time.perf_counter() - start, memory.megabytes


def _rules(dsn: str, name: str) -> pa.Table:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(statement(name))
        columns = ["antecedent", "consequent", "support", "confidence", "lift"]
        return measured(pd.DataFrame(cursor.fetchall(), columns=columns))
