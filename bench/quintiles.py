"""Benchmark of exact scores after each batch: by moved cuts, beside our full ntile and the usual one.

In each compared batch the ways run one after the other on the same customers (a savepoint takes the first ones back)
and must leave the same scores of every customer before a time counts.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

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

WAYS: dict[str, Way] = {
    "usual": lambda cursor: cursor.execute(statement("bench/full_ntile")),
    "by ntile": lambda cursor: score(cursor, full_share=0),
    "by cuts": lambda cursor: score(cursor, full_share=float("inf")),
}


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
        Path(folder).chmod(0o755)
        server = database.start(home)
        try:
            run = _crossover if crossover else _by_customers
            run(
                home,
                server.port,
                customers or ([4_000, 100_000] if crossover else [10_000, 100_000, 1_000_000]),
                changed,
                batches,
                compared,
            )
        finally:
            database.stop(home, server)


class Shop:
    """A mart of made-up customers, scored; `bootstrap_seconds`: the first scores, cuts and totals of all of them."""

    def __init__(self, home: Path, port: int, customers: int) -> None:
        owner_dsn, name = database.dsn(home, database.OWNER, port), f"shop_{customers}"
        with closing(psycopg2.connect(database.dsn(home, database.SUPERUSER, port))) as admin:
            admin.autocommit = True
            database.create_database(admin.cursor(), name)
        dsn = database.dsn(home, database.WRITER, port, name)
        with closing(psycopg2.connect(owner_dsn, dbname=name)) as owner:
            migrate(owner)
        self.connection = connect(dsn)
        describe_shop(self.connection, Settings())
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("SELECT setseed(0.5)")
            cursor.execute(statement("bench/fill_customers"), {"customers": customers})
            cursor.execute("UPDATE mart.shop SET newest_invoice_date = '2025-06-30'")
        start = time.perf_counter()
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            score_all(cursor, "repaired")
        self.bootstrap_seconds = time.perf_counter() - start
        with closing(psycopg2.connect(owner_dsn, dbname=name)) as owner:
            owner.autocommit = True
            owner.cursor().execute("VACUUM ANALYZE mart.customer")
        self.batch = 0

    def apply(self, changed: int, ways: dict[str, Way]) -> dict[str, float]:
        """Change so many customers and score by each way, taken back but for the last; milliseconds a way.

        Raises AssertionError if two ways leave different scores.
        """
        self.batch += 1
        taken: dict[str, float] = {}
        digests = set()
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement("bench/stage_invoices"), {"batch": self.batch, "changed": changed})
            start = time.perf_counter()
            lock_scores(cursor)
            cursor.execute(statement("apply/advance_clock"))
            cursor.execute(statement("apply/upsert_customers"), {"returns_policy": "ignore"})
            taken["upsert"] = (time.perf_counter() - start) * 1000
            cursor.execute("SAVEPOINT upserted")
            for name, way in ways.items():
                cursor.execute("ROLLBACK TO SAVEPOINT upserted")
                start = time.perf_counter()
                way(cursor)
                taken[name] = (time.perf_counter() - start) * 1000
                if len(ways) > 1:
                    cursor.execute(statement("bench/digest_scores"))
                    digests.add(one_row(cursor))
            cursor.execute("SELECT count(*) FROM due_customer")
            taken["rescored"] = one_row(cursor)[0]
        if len(digests) > 1:
            raise AssertionError(f"batch {self.batch}: the ways {list(ways)} give different scores")
        return taken

    def close(self) -> None:
        """Check all scores once more, and leave."""
        with contextlib.closing(self.connection):
            check = check_scores(self.connection)
            if not check.is_right:
                raise AssertionError(f"wrong in the end: {check}")


def _by_customers(home: Path, port: int, sizes: list[int], changed: int, batches: int, compared: int) -> None:
    table = Table(
        title=f"Scores after a batch of {changed:,} changed customers, milliseconds (median of {batches} batches)",
        caption=f"by ntile, usual: in {compared} of the batches, on the same customers, same scores; without upsert, commit",
    )
    for heading in ("customers", "bootstrap, s", "upsert", "rescored", "by cuts", "p95", "by ntile", "usual ntile"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("usual / cuts", justify="right")
    every = max(1, batches // compared)
    for size in sizes:
        with console.status(f"{size:,} customers"):
            shop = Shop(home, port, size)
            shop.apply(changed, {"by cuts": WAYS["by cuts"]})
            taken = [
                shop.apply(changed, WAYS if n % every == 0 else {"by cuts": WAYS["by cuts"]}) for n in range(batches)
            ]
            shop.close()
        ours = [t["by cuts"] for t in taken]
        median = {name: statistics.median(t[name] for t in taken if name in t) for name in (*taken[0], "upsert")}
        table.add_row(
            f"{size:,}",
            f"{shop.bootstrap_seconds:.1f}",
            f"{median['upsert']:.0f}",
            f"{median['rescored']:,.0f}",
            f"{median['by cuts']:.0f}",
            f"{sorted(ours)[int(0.95 * (len(ours) - 1))]:.0f}",
            f"{median['by ntile']:,.0f}",
            f"{median['usual']:,.0f}",
            f"{median['usual'] / median['by cuts']:.0f}x",
        )
    console.print(table)


def _crossover(home: Path, port: int, sizes: list[int], _changed: int, _batches: int, compared: int) -> None:
    table = Table(title="Scores after a batch, milliseconds, by share of the customers that it changes")
    for heading in ("customers", "share", *WAYS):
        table.add_column(heading, justify="right")
    for size in sizes:
        with console.status(f"{size:,} customers"):
            shop = Shop(home, port, size)
            shop.apply(max(20, size // 100), WAYS)
            for percent in (1, 5, 10, 20, 30, 50, 80):
                taken = [shop.apply(max(20, size * percent // 100), WAYS) for _ in range(compared)]
                medians = [f"{statistics.median(t[way] for t in taken):,.0f}" for way in WAYS]
                table.add_row(f"{size:,}", f"{percent} %", *medians)
            shop.close()
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
