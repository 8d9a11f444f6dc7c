"""The nightly job: ours, from the lake, compared with a batch over all CSV files that overwrites its tables.

Whole processes, including Spark's start. The batch also computes the customers, which ours finds up to date in the
mart, because the stream keeps them so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.memory import PeakMemory
from bench.oracle import wrong
from bench.results import OURS, Figure, Row
from bench.rules import differs, measured
from bench.servers import Servers
from demo.recompute import read_lines, recompute, split_unsendable
from stack.command import Command

BATCH = "Spark, from CSV, tables overwritten"


def nightly(servers: Servers, name: str, data: Path, lake: str, support: str, max_items: int) -> Iterator[Row]:
    """Two rows: seconds, rules, peak_mb. The rules must be the same, and the batch's customers those that DuckDB
    recomputes from the files, to the cent."""
    case = f"{name}, support {support}, sets of at most {max_items}"
    with servers.fresh_database("nightly") as place:
        environment = servers.environment(place, "none") | {"LAKE_PATH": lake}
        asked = {"--support": support, "--confidence": "0.05", "--max-items": str(max_items)}
        options = [word for pair in asked.items() for word in pair]
        all_days = ("--business-date", "newest", "--window", "10000d")
        figures = _timed(servers, environment, "cli", "mine", *all_days, *options)
        ours = measured(place.rows("bench/rules_mart"))
        yield Row(case, OURS, figures | {"rules": ours.num_rows})
        figures = _timed(servers, environment, "bench.peers.nightly_batch", str(data), place.owner_dsn, *asked.values())
        theirs = measured(place.rows("bench/rules_overwritten"))
        expected = recompute(split_unsendable(read_lines(data))[0])
        difference = differs(theirs, ours) or wrong(place.customers("bench/customers_overwritten"), expected)
        yield Row(case, BATCH, {} if difference else figures | {"rules": theirs.num_rows}, wrong=difference)


def _timed(servers: Servers, environment: Mapping[str, str], module: str, *arguments: str) -> dict[str, Figure]:
    start = time.perf_counter()
    log = servers.home / "log" / f"{module}.log"
    with Command(module, *arguments, log=log, environment=environment) as command, PeakMemory([command.pid]) as memory:
        command.succeed()
    return {"seconds": time.perf_counter() - start, "peak_mb": memory.megabytes}
