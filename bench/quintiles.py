"""Benchmark of exact scores after each batch: by moved cuts, beside our full ntile and the usual one.

In each compared batch the ways run one after the other on the same customers (a savepoint takes the first ones back)
and must leave the same scores of every customer before a time counts. Beside the milliseconds that passed stand those
that the database's process worked: on a busy machine only these compare.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import psutil
import psycopg2
import typer
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Console
from rich.table import Table

from conf.settings import Settings
from sql import one_row, statement
from stack import database
from streaming.mart import connect, describe_shop
from streaming.migrate import migrate
from streaming.score import check_scores, lock_scores, score, score_all

console = Console(highlight=False)
Way = Callable[[Cursor], object]

BY_CUTS, BY_NTILE, USUAL = "by cuts", "by ntile", "usual ntile"
WAYS: dict[str, Way] = {
    USUAL: lambda cursor: cursor.execute(statement("bench/full_ntile")),
    BY_NTILE: lambda cursor: score(cursor, full_share=0),
    BY_CUTS: lambda cursor: score(cursor, full_share=float("inf")),
}
# What a server for a million customers would have; the stack's own 256 MB do not hold their indexes.
CONFIGURATION = {"shared_buffers": "1GB"}


def main(
    customers: Annotated[list[int] | None, typer.Option(help="Customers of a shop; repeat for more shops.")] = None,
    changed: Annotated[int, typer.Option(min=20, help="Customers that a batch changes.")] = 1000,
    batches: Annotated[int, typer.Option(min=1, help="Batches timed with moved cuts.")] = 20,
    compared: Annotated[int, typer.Option(min=1, help="Of these, batches in which the other ways run too.")] = 3,
    crossover: Annotated[
        bool,
        typer.Option("--crossover", help="Instead: from which share of changed customers on is a full ntile faster?"),
    ] = False,
) -> None:
    """Milliseconds that a batch's scores cost, by way and number of customers, on an embedded PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="quintiles-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        server = database.start(home, configuration=CONFIGURATION)
        try:
            if crossover:
                _crossover(home, server.port, customers or [4_000, 100_000], compared)
            else:
                sizes = customers or [10_000, 100_000, 1_000_000]
                _by_customers(home, server.port, sizes, changed, batches, compared)
        finally:
            database.stop(home, server)


class Took:
    """Milliseconds of one thing in several batches: passed, and worked by the database's process."""

    def __init__(self) -> None:
        self.passed: list[float] = []
        self.worked: list[float] = []

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
            owner.cursor().execute("VACUUM FULL ANALYZE mart.customer")
            owner.cursor().execute("VACUUM mart.customer")
        start = time.perf_counter()
        self._score_all()
        self.bootstrap_seconds = time.perf_counter() - start
        self.backend = psutil.Process(self.connection.info.backend_pid)
        self.batch = 0
        self.took: dict[str, Took] = {name: Took() for name in ("upsert", *WAYS)}
        self.rescored: list[int] = []

    def _score_all(self) -> None:
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            score_all(cursor, "repaired")

    @contextmanager
    def _taking(self, name: str) -> Iterator[None]:
        passed, worked = time.perf_counter(), self._worked()
        yield
        self.took[name].passed.append((time.perf_counter() - passed) * 1000)
        self.took[name].worked.append(self._worked() - worked)

    def _worked(self) -> float:
        """Milliseconds of processor time of this connection's server process, as fine as the system tells."""
        try:
            return int(Path(f"/proc/{self.backend.pid}/schedstat").read_text().split()[0]) / 1e6
        except OSError:
            times = self.backend.cpu_times()
            return (times.user + times.system) * 1000

    def apply(self, changed: int, *ways: str) -> None:
        """Change so many customers and score by each way, taken back but for the last.

        Raises AssertionError if two ways leave different scores.
        """
        self.batch += 1
        digests = set()
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
                    WAYS[name](cursor)
                if len(ways) > 1:
                    cursor.execute(statement("bench/digest_scores"))
                    digests.add(one_row(cursor))
            cursor.execute("SELECT count(*) FROM due_customer")
            self.rescored.append(one_row(cursor)[0])
        if len(digests) > 1:
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


def _by_customers(home: Path, port: int, sizes: list[int], changed: int, batches: int, compared: int) -> None:
    table = Table(
        title=f"Scores after a batch of {changed:,} changed customers: milliseconds passed (worked), medians",
        caption=f"{batches} batches; the ntiles in {compared} of them, on the same customers, with the same scores",
    )
    for heading in ("customers", "bootstrap, s", "upsert", "rescored", BY_CUTS, BY_NTILE, USUAL, "usual / by cuts"):
        table.add_column(heading, justify="right", no_wrap=True)
    every = max(1, batches // compared)
    for size in sizes:
        with console.status(f"{size:,} customers"):
            shop = Shop(home, port, size)
            for _ in range(5):
                shop.apply(changed, BY_CUTS)
            shop.forget_times()
            for n in range(batches):
                shop.apply(changed, *(WAYS if n % every == 0 and n // every < compared else (BY_CUTS,)))
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
            shop.apply(max(20, size // 100), *WAYS)
            for percent in (5, 10, 20, 30, 50, 80):
                shop.forget_times()
                for _ in range(compared):
                    shop.apply(max(20, size * percent // 100), *WAYS)
                table.add_row(f"{size:,}", f"{percent} %", *(str(shop.took[way]) for way in WAYS))
            shop.close()
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
