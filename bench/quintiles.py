"""Exact scores after each batch: by moved cuts, compared with our full ntile, the usual one, DuckDB and pandas.

In each compared batch the contenders run one after another on the same customers (a savepoint rolls back all but the
last) and must produce the same scores for every customer before a time counts.

`python -m bench.quintiles`: from which share of changed customers on is a full ntile faster than moved cuts?
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandas as pd
import psutil
import psycopg2
import pyarrow as pa
import pyarrow.csv as arrow_csv
import typer
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Console

from bench.memory import PeakMemory
from bench.results import OURS, Row
from conf.settings import Settings
from conf.terminal import Table, number
from mart.connection import connect
from mart.migrate import migrate
from mart.score import check_scores, lock_scores, score, score_all
from mart.shop_rules import apply_shop_rules
from sql import one_row, statement
from stack import database

Way = Callable[[Cursor], object]
BY_CUTS, BY_NTILE, USUAL = f"{OURS}, by cuts", f"{OURS}, by ntile", "full ntile in PostgreSQL"
DUCKDB, PANDAS = "DuckDB", "pandas qcut"
_SHARES = (5, 10, 20, 30, 50, 80)
_WARM_UP_BATCHES = 5
# What a server for a million customers would have; the stack's own 256 MB do not hold their indexes.
_CONFIGURATION = {"shared_buffers": "1GB"}


def by_duckdb(cursor: Cursor) -> None:
    """Read the customers out of PostgreSQL, ntile in DuckDB, write back the scores that changed."""
    with duckdb.connect() as engine:
        engine.register("customer", _read_metrics(cursor))
        _write_scores(cursor, engine.execute(statement("bench/duckdb_ntile")).to_arrow_table())


def by_pandas(cursor: Cursor) -> None:
    """The same with pandas' qcut over ranks; exactly ntile only if the number of customers is a multiple of 5."""
    customers = _read_metrics(cursor).to_pandas().sort_values("customer_id")
    same = pd.Series(True, index=customers.index)
    for score_, metric in {"r": "last_purchase", "f": "frequency", "m": "cents"}.items():
        ranks = pd.to_datetime(customers[metric]) if metric == "last_purchase" else customers[metric]
        quintiles = pd.qcut(ranks.rank(method="first"), 5, labels=False) + 1
        same &= quintiles == customers[score_]
        customers[score_] = quintiles
    changed = customers.loc[~same, ["customer_id", "r", "f", "m"]]
    _write_scores(cursor, pa.Table.from_pandas(changed, preserve_index=False))


def _read_metrics(cursor: Cursor) -> pa.Table:
    read = io.BytesIO()
    cursor.copy_expert(statement("bench/copy_metrics"), read)
    read.seek(0)
    types = {"customer_id": pa.string()}
    return arrow_csv.read_csv(read, convert_options=arrow_csv.ConvertOptions(column_types=types))


def _write_scores(cursor: Cursor, changed: pa.Table) -> None:
    written = io.BytesIO()
    arrow_csv.write_csv(changed, written, arrow_csv.WriteOptions(include_header=False))
    written.seek(0)
    cursor.execute(statement("bench/create_new_score"))
    cursor.execute("DELETE FROM new_score")
    cursor.copy_expert("COPY new_score FROM STDIN (FORMAT csv)", written)
    cursor.execute(statement("bench/write_scores"))


WAYS: dict[str, Way] = {
    BY_CUTS: lambda cursor: score(cursor, full_share=float("inf")),
    BY_NTILE: lambda cursor: score(cursor, full_share=0),
    USUAL: lambda cursor: cursor.execute(statement("bench/full_ntile")),
    DUCKDB: by_duckdb,
    PANDAS: by_pandas,
}


@contextmanager
def _server() -> Iterator[tuple[Path, int]]:
    """Folder and port of a PostgreSQL that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="quintiles-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        server = database.start(home, configuration=_CONFIGURATION)
        try:
            yield home, server.port
        finally:
            database.stop(home, server)


@dataclass
class Took:
    """Milliseconds of one way in several batches, and the most megabytes that this process, the database's client, took
    beside what it held before."""

    ms: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    @contextmanager
    def once(self) -> Iterator[None]:
        held = psutil.Process().memory_info().rss
        with PeakMemory([os.getpid()], every=0.02, descendants=False) as memory:
            start = time.perf_counter()
            yield
            self.ms.append((time.perf_counter() - start) * 1000)
        self.megabytes = max(self.megabytes, (memory.bytes - held) / 2**20)


class Shop:
    """A mart of made-up customers, scored; `bootstrap_seconds`: scores, cuts and totals of a mart that has no cuts."""

    def __init__(self, home: Path, port: int, customers: int) -> None:
        name = f"shop_{customers}"
        with closing(psycopg2.connect(database.dsn(home, database.SUPERUSER, port))) as admin:
            admin.autocommit = True
            database.create_database(admin.cursor(), name)
        owner = psycopg2.connect(database.dsn(home, database.OWNER, port, name))
        with closing(owner):
            migrate(owner)
            self.connection = connect(database.dsn(home, database.WRITER, port, name))
            apply_shop_rules(self.connection, Settings())
            with self.connection, self.connection.cursor() as cursor:
                cursor.execute("SELECT setseed(0.5)")
                cursor.execute(statement("bench/fill_customers"), {"customers": customers})
                cursor.execute("UPDATE mart.shop SET newest_invoice_date = '2025-06-30'")
            self._score_all()
            owner.autocommit = True
            owner.cursor().execute("VACUUM FULL mart.customer")
            owner.cursor().execute("VACUUM ANALYZE")
        start = time.perf_counter()
        self._score_all()
        self.bootstrap_seconds = time.perf_counter() - start
        self.batch = 0
        self.forget_times()

    def _score_all(self) -> None:
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            score_all(cursor, "repaired")

    def apply(self, changed: int, *ways: str) -> set[str]:
        """Change so many customers and score by each way, taken back but for the last; the ways that left other scores
        than the last one."""
        self.batch += 1
        digests: dict[str, tuple[Any, ...]] = {}
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement("bench/stage_invoices"), {"batch": self.batch, "changed": changed})
            lock_scores(cursor)
            cursor.execute(statement("apply/advance_clock"))
            cursor.execute(statement("apply/upsert_customers"), {"returns_policy": "ignore"})
            cursor.execute("SAVEPOINT upserted")
            for name in ways:
                cursor.execute("ROLLBACK TO SAVEPOINT upserted")
                with self.took[name].once():
                    WAYS[name](cursor)
                if len(ways) > 1:
                    cursor.execute(statement("bench/digest_scores"))
                    digests[name] = one_row(cursor)
            cursor.execute("SELECT count(DISTINCT customer_id) FROM due_customer")
            self.rescored.append(one_row(cursor)[0])
        return {name for name, digest in digests.items() if digest != digests[ways[-1]]}

    def forget_times(self) -> None:
        """Count from here on: what was before was for warming up."""
        self.took = {name: Took() for name in WAYS}
        self.rescored: list[int] = []

    def close(self) -> None:
        """Check all scores once more, and leave."""
        with closing(self.connection):
            check = check_scores(self.connection)
            if not check.is_right:
                raise AssertionError(f"wrong in the end: {check}")


def scores(sizes: Sequence[int], changed: int, batches: int, compared: int) -> Iterator[Row]:
    """A row a number of customers and way: ms (median of a batch's scores) and added_mb; of ours by cuts also rescored,
    the median of the customers scored anew, and bootstrap_seconds.

    Ours by cuts runs in all batches, the others in the last `compared` of them, on the same customers; after each all
    scores of all ways must be the same. They come last because a full ntile that is taken back leaves a dead copy of
    every customer, which no mart has. `changed` must be a multiple of 100: then qcut's quintiles are ntile's.
    """
    others = (USUAL, DUCKDB, PANDAS)
    with _server() as (home, port):
        for size in sizes:
            shop = Shop(home, port, size)
            if size == min(sizes):
                shop.apply(changed, *others, BY_CUTS)  # imports and threads of the first time
            for _ in range(min(_WARM_UP_BATCHES, batches)):
                shop.apply(changed, BY_CUTS)
            shop.forget_times()
            wrong: set[str] = set()
            for batch in range(batches):
                wrong |= shop.apply(changed, *(others if batch >= batches - compared else ()), BY_CUTS)
            shop.close()
            for way in (BY_CUTS, *others):
                took = shop.took[way]
                figures = {"ms": statistics.median(took.ms), "added_mb": took.megabytes}
                if way == BY_CUTS:
                    figures["rescored"] = statistics.median(shop.rescored)
                    figures["bootstrap_seconds"] = shop.bootstrap_seconds
                case = f"{size:,} customers"
                yield Row(case, way, wrong="other scores") if way in wrong else Row(case, way, figures)


def main(
    customers: Annotated[list[int] | None, typer.Option(help="Customers of a shop; repeat for more shops.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Batches of each share.")] = 3,
) -> None:
    """Milliseconds that a batch's scores cost by share of the customers that it changes, on an embedded PostgreSQL."""
    ways = (USUAL, BY_NTILE, BY_CUTS)
    table = Table(*map(number, ("customers", "changed", *ways)))
    with _server() as (home, port):
        for size in customers or (4_000, 100_000):
            shop = Shop(home, port, size)
            for percent in (1, *_SHARES):  # the first warms up
                shop.forget_times()
                for _ in range(rounds):
                    if wrong := shop.apply(max(20, size * percent // 100), *ways):
                        raise AssertionError(f"batch {shop.batch}: {wrong} gave other scores than {BY_CUTS}")
                table.add(f"{size:,}", f"{percent} %", *(f"{statistics.median(shop.took[w].ms):,.0f}" for w in ways))
            shop.close()
    Console(highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
