"""Prune: what is older than the settings keep goes, from the mart and the lake; every figure stays as it is.

An invoice leaves its number, so that a copy of it is a duplicate whenever it comes, and what its customer's came to, so
that customers can be counted anew. A page of invoices is one transaction, between two batches of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow.dataset as ds
from deltalake import DeltaTable
from psycopg2.extensions import connection as Connection  # noqa: N812
from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.lake import LAKE_PARTITION
from conf.settings import Settings
from conf.terminal import Table, number, prose
from lake.files import delete_before, delete_old_files
from lake.table import committed, find_lake, reaching
from mart.connection import as_owner
from mart.session import session
from sql import one_row, statement

_PAGE = 5_000  # invoices a transaction: a batch of the stream waits for one


@dataclass(frozen=True)
class Bounds:
    """What stays: rows of this date or moment and later (None: all of them), and so many published rule runs; `as_of`:
    the date that the mart's days count back from."""

    invoices: date | None
    moves: date | None
    lake: date | None
    quarantine: datetime | None
    batches: datetime | None
    rule_runs: int
    as_of: date | None = None


@dataclass(frozen=True)
class Old:
    """Rows beyond the bounds, before they go or when they are gone. `waiting`: of the quarantined records those that
    nobody has settled. `lake` counts its rows, copies included; None where there is no lake."""

    invoices: int
    moves: int
    quarantined: int
    waiting: int
    batches: int
    rule_runs: int
    lake: int | None

    @property
    def rows(self) -> int:
        return self.invoices + self.moves + self.quarantined + self.batches + self.rule_runs + (self.lake or 0)


def look(settings: Settings) -> tuple[Bounds, Old]:
    """What the settings keep as of now, and how many rows are older. Changes nothing.

    As MART_OWNER_DSN. Raises StreamingError if the mart's schema is out of date.
    """
    with _owner(settings) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement("prune/select_clocks"))
        bounds = _bounds(settings, *one_row(cursor))
        cursor.execute(statement("prune/count"), vars(bounds))
        invoices, moves, quarantined, waiting, batches, rule_runs = one_row(cursor)
    in_lake: int | None = None
    table = find_lake(settings.lake)
    if table is not None:
        with reaching(settings.lake):
            rows = table.to_pyarrow_dataset()
            in_lake = rows.count_rows(filter=ds.field(LAKE_PARTITION) < bounds.lake) if bounds.lake else 0
    return bounds, Old(invoices, moves, quarantined, waiting, batches, rule_runs, in_lake)


def prune(settings: Settings, bounds: Bounds, on_step: Callable[[str], None] = lambda _: None) -> Old:
    """Delete what is older than the bounds; returns what went. May run beside the stream, and be run again at any time.

    As MART_OWNER_DSN. Raises StreamingError if that is not the mart's owner, UnavailableError if the lake takes no
    commit: what is done by then stays done.
    """
    with _owner(settings) as connection:
        invoices = _prune_invoices(connection, bounds, on_step)
        on_step("moves, quarantine, batches, rule runs")
        moves = _deleted(connection, "prune/delete_moves", bounds)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("prune/delete_quarantined"), vars(bounds))
            (quarantined,) = one_row(cursor)
        batches = _deleted(connection, "prune/delete_batches", bounds)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("rules/delete_old"), {"kept": bounds.rule_runs})
            rule_runs = cursor.rowcount
    on_step("the lake")
    table = find_lake(settings.lake)
    lake = None if table is None else _prune_lake(table, bounds.lake, settings.lake_retention_hours)
    return Old(invoices, moves, quarantined, 0, batches, rule_runs, lake)


def _bounds(settings: Settings, as_of: date | None, now: datetime) -> Bounds:
    def since(days: int) -> date | None:
        return as_of - timedelta(days=days) if days and as_of else None

    def after(days: int) -> datetime | None:
        return now - timedelta(days=days) if days else None

    return Bounds(
        invoices=since(settings.invoices_kept_days),
        moves=since(settings.moves_kept_days),
        lake=since(settings.lake_kept_days),
        quarantine=after(settings.quarantine_kept_days),
        batches=after(settings.batches_kept_days),
        rule_runs=settings.rule_runs_kept,
        as_of=as_of,
    )


def _prune_invoices(connection: Connection, bounds: Bounds, on_step: Callable[[str], None]) -> int:
    gone = 0
    with closing(connection.cursor("old_invoices", withhold=True)) as numbers:
        with connection:  # its end keeps the numbers: no invoice of before the bound that comes later is among them
            numbers.execute(statement("prune/select_invoices"), vars(bounds))
        while page := [invoice for (invoice,) in numbers.fetchmany(_PAGE)]:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement("erase/lock_writers"))
                cursor.execute(statement("prune/delete_invoices"), {"invoices": page})
                gone += one_row(cursor)[0]
            on_step(counted(gone, "invoice"))
    connection.commit()
    return gone


def _deleted(connection: Connection, name: str, bounds: Bounds) -> int:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement(name), vars(bounds))
        return cursor.rowcount


def _prune_lake(table: DeltaTable, since: date | None, retention_hours: int) -> int:
    if since is None:
        return 0
    rows = committed(table, lambda: delete_before(table, since))
    committed(table, lambda: delete_old_files(table, retention_hours))
    return rows


@contextmanager
def _owner(settings: Settings) -> Iterator[Connection]:
    dsn = settings.require_mart("owner")
    with session(dsn, "retail-mart prune") as connection, as_owner("prune"):
        yield connection


def describe(settings: Settings, bounds: Bounds, old: Old, done: bool = False) -> RenderableType:
    """What is older than the settings keep, or what went, for a terminal."""
    table = Table(prose("what"), "setting", prose("kept"), number("removed" if done else "older"))
    for what, name, since, rows in (
        ("invoices in the mart", "invoices_kept_days", bounds.invoices, old.invoices),
        ("moves between segments", "moves_kept_days", bounds.moves, old.moves),
        ("rows of the lake", "lake_kept_days", bounds.lake, old.lake),
        ("quarantined records", "quarantine_kept_days", bounds.quarantine, old.quarantined),
        ("batches in the log", "batches_kept_days", bounds.batches, old.batches),
    ):
        kept = "all" if since is None else f"since {since:%Y-%m-%d}"
        table.add(what, f"{name.upper()}={getattr(settings, name)}", kept, "no lake" if rows is None else f"{rows:,}")
    table.add("rule runs", f"RULE_RUNS_KEPT={bounds.rule_runs}", f"the newest {bounds.rule_runs}", f"{old.rule_runs:,}")
    if old.waiting:
        return Group(
            table,
            Text(f"{counted(old.waiting, 'record')} of those in quarantine not settled: redrive them first", "yellow"),
        )
    return table
