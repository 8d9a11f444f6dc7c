"""Exact scores after each batch: by moved cuts, beside our full ntile, the usual one, DuckDB and pandas.

In each compared batch the ways run one after the other on the same customers (a savepoint takes the first ones back)
and must leave the same scores of every customer before a time counts. Beside the milliseconds that passed stand those
that the database's process worked: on a busy machine only these compare.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
from rich.table import Table

from bench.memory import PeakMemory
from bench.results import OURS, Row
from conf.settings import Settings
from mart.connection import connect
from mart.migrate import migrate
from mart.score import check_scores, lock_scores, score, score_all
from mart.shop_rules import describe_shop
from sql import one_row, statement
from stack import database

console = Console(highlight=False)
Way = Callable[[Cursor], object]

BY_CUTS, BY_NTILE, USUAL = "by cuts", "by ntile", "usual ntile"
DUCKDB, PANDAS = "DuckDB", "pandas qcut"


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
        tiles = pd.qcut(ranks.rank(method="first"), 5, labels=False) + 1
        same &= tiles == customers[score_]
        customers[score_] = tiles
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
    USUAL: lambda cursor: cursor.execute(statement("bench/full_ntile")),
    BY_NTILE: lambda cursor: score(cursor, full_share=0),
    BY_CUTS: lambda cursor: score(cursor, full_share=float("inf")),
}
PEERS: dict[str, Way] = {DUCKDB: by_duckdb, PANDAS: by_pandas}
# What a server for a million customers would have; the stack's own 256 MB do not hold their indexes.
CONFIGURATION = {"shared_buffers": "1GB"}


def main(
    customers: Annotated[list[int] | None, typer.Option(help="Customers of a shop; repeat for more shops.")] = None,
    changed: Annotated[int, typer.Option(min=20, help="Customers that a batch changes.")] = 1000,
    batches: Annotated[int, typer.Option(min=1, help="Batches timed with moved cuts.")] = 20,
    compared: Annotated[int, typer.Option(min=1, help="Of these, the last, in which the other ways run too.")] = 3,
    crossover: Annotated[
        bool,
        typer.Option("--crossover", help="Instead: from which share of changed customers on is a full ntile faster?"),
    ] = False,
) -> None:
    """Milliseconds that a batch's scores cost, by way and number of customers, on an embedded PostgreSQL."""
    with _server() as (home, port):
        if crossover:
            _crossover(home, port, customers or [4_000, 100_000], compared)
        else:
            _by_customers(home, port, customers or [10_000, 100_000, 1_000_000], changed, batches, compared)


@contextmanager
def _server() -> Iterator[tuple[Path, int]]:
    """Folder and port of a PostgreSQL that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="quintiles-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        server = database.start(home, configuration=CONFIGURATION)
        try:
            yield home, server.port
        finally:
            database.stop(home, server)


class Took:
    """Milliseconds of one thing in several batches: passed, and worked by the database's process."""

    def __init__(self) -> None:
        self.passed: list[float] = []
        self.worked: list[float] = []
        self.megabytes = 0.0
        """The most that this process, the database's client, took beside what it held before."""

    def __str__(self) -> str:
        return f"{statistics.median(self.passed):,.0f} ({statistics.median(self.worked):,.0f})"


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
            describe_shop(self.connection, Settings())
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
        self.backend = psutil.Process(self.connection.info.backend_pid)
        self.batch = 0
        self.took: dict[str, Took] = {name: Took() for name in ("upsert", *WAYS, *PEERS)}
        self.rescored: list[int] = []

    def _score_all(self) -> None:
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            score_all(cursor, "repaired")

    @contextmanager
    def _taking(self, name: str) -> Iterator[None]:
        held = psutil.Process().memory_info().rss
        with PeakMemory([os.getpid()], every=0.02, descendants=False) as memory:
            passed, worked = time.perf_counter(), self._worked()
            yield
            self.took[name].passed.append((time.perf_counter() - passed) * 1000)
            self.took[name].worked.append(self._worked() - worked)
        self.took[name].megabytes = max(self.took[name].megabytes, (memory.bytes - held) / 2**20)

    def _worked(self) -> float:
        """Milliseconds of processor time of this connection's server process, as fine as the system tells."""
        try:
            return int(Path(f"/proc/{self.backend.pid}/schedstat").read_text().split()[0]) / 1e6
        except OSError:
            times = self.backend.cpu_times()
            return (times.user + times.system) * 1000

    def apply(self, changed: int, *ways: str) -> dict[str, tuple[Any, ...]]:
        """Change so many customers and score by each way, taken back but for the last; each way's digest of all scores,
        if there are several."""
        self.batch += 1
        digests = {}
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement("bench/stage_invoices"), {"batch": self.batch, "changed": changed})
            with self._taking("upsert"):
                lock_scores(cursor)
                cursor.execute(statement("apply/advance_clock"))
                cursor.execute(statement("apply/upsert_customers"), {"returns_policy": "ignore"})
            cursor.execute("SAVEPOINT upserted")
            for name in ways:
                cursor.execute("ROLLBACK TO SAVEPOINT upserted")
                with self._taking(name):
                    (WAYS | PEERS)[name](cursor)
                if len(ways) > 1:
                    cursor.execute(statement("bench/digest_scores"))
                    digests[name] = one_row(cursor)
            cursor.execute("SELECT count(DISTINCT customer_id) FROM due_customer")
            self.rescored.append(one_row(cursor)[0])
        return digests

    def apply_batches(self, changed: int, batches: int, compared: int, *ways: str) -> set[str]:
        """A few batches to warm up, then so many that count: by cuts in all, by all `ways` in the last `compared`.

        They come last because a full ntile that is taken back leaves a dead copy of every customer, which no mart has.
        Names of the ways that left other scores than by cuts.
        """
        for _ in range(min(5, batches)):
            self.apply(changed, BY_CUTS)
        self.forget_times()
        wrong: set[str] = set()
        for n in range(batches):
            digests = self.apply(changed, *(ways if n >= batches - compared else (BY_CUTS,)))
            wrong |= {way for way, digest in digests.items() if digest != digests[BY_CUTS]}
        return wrong

    def apply_alike(self, changed: int, *ways: str) -> None:
        """The same. Raises AssertionError if two ways leave different scores."""
        if len(set(self.apply(changed, *ways).values())) > 1:
            raise AssertionError(f"batch {self.batch}: the ways {ways} give different scores")

    def forget_times(self) -> None:
        """Count from here on: what was before was for warming up."""
        self.took = {name: Took() for name in self.took}
        self.rescored = []

    def close(self) -> None:
        """Check all scores once more, and leave."""
        with closing(self.connection):
            check = check_scores(self.connection)
            if not check.is_right:
                raise AssertionError(f"wrong in the end: {check}")


def scores(sizes: Sequence[int], changed: int, batches: int, compared: int, say: Callable[[str], None]) -> list[Row]:
    """A row a number of customers and way: ms (median of a batch's scores) and added_mb; of ours by cuts also rescored,
    the median of the customers scored anew, and bootstrap_seconds.

    Ours by cuts runs in all batches, the others in the last `compared` of them, on the same customers; after each all
    scores of all ways must be the same. `changed` must be a multiple of 100: then qcut's tiles are ntile's.
    """
    names = {BY_CUTS: f"{OURS}, by cuts", USUAL: "full ntile in PostgreSQL", DUCKDB: DUCKDB, PANDAS: PANDAS}
    rows = []
    with _server() as (home, port):
        for size in sizes:
            shop = Shop(home, port, size)
            if size == min(sizes):
                shop.apply(changed, USUAL, *PEERS, BY_CUTS)  # imports and threads of the first time
            wrong = shop.apply_batches(changed, batches, compared, USUAL, *PEERS, BY_CUTS)
            shop.close()
            for way, name in names.items():
                took = shop.took[way]
                figures = {"ms": statistics.median(took.passed), "added_mb": took.megabytes}
                if way == BY_CUTS:
                    figures["rescored"] = statistics.median(shop.rescored)
                    figures["bootstrap_seconds"] = shop.bootstrap_seconds
                case = f"{size:,} customers"
                rows.append(Row(case, name, wrong="other scores") if way in wrong else Row(case, name, figures))
                say(f"scores, {case}, {name}: {rows[-1].wrong or dict(rows[-1].figures)}")
    return rows


def _by_customers(home: Path, port: int, sizes: list[int], changed: int, batches: int, compared: int) -> None:
    table = Table(
        title=f"Scores after a batch of {changed:,} changed customers: milliseconds passed (worked), medians",
        caption=f"{batches} batches; the ntiles in {compared} of them, on the same customers, with the same scores",
    )
    for heading in ("customers", "bootstrap, s", "upsert", "rescored", BY_CUTS, BY_NTILE, USUAL, "usual / by cuts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for size in sizes:
        with console.status(f"{size:,} customers"):
            shop = Shop(home, port, size)
            if wrong := shop.apply_batches(changed, batches, compared, *WAYS):
                raise AssertionError(f"{size:,} customers: {wrong} gave other scores than {BY_CUTS}")
            shop.close()
        took = shop.took
        table.add_row(
            f"{size:,}",
            f"{shop.bootstrap_seconds:.1f}",
            str(took["upsert"]),
            f"{statistics.median(shop.rescored):,.0f}",
            *(str(took[way]) for way in (BY_CUTS, BY_NTILE, USUAL)),
            f"{statistics.median(took[USUAL].worked) / statistics.median(took[BY_CUTS].worked):.1f}x",
        )
    console.print(table)


def _crossover(home: Path, port: int, sizes: list[int], compared: int) -> None:
    table = Table(title="Scores after a batch, milliseconds passed (worked), by share of the customers that it changes")
    for heading in ("customers", "changed", *WAYS):
        table.add_column(heading, justify="right", no_wrap=True)
    for size in sizes:
        with console.status(f"{size:,} customers"):
            shop = Shop(home, port, size)
            shop.apply_alike(max(20, size // 100), *WAYS)
            for percent in (5, 10, 20, 30, 50, 80):
                shop.forget_times()
                for _ in range(compared):
                    shop.apply_alike(max(20, size * percent // 100), *WAYS)
                table.add_row(f"{size:,}", f"{percent} %", *(str(shop.took[way]) for way in WAYS))
            shop.close()
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
