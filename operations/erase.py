"""Erase: remove customers from the mart and the lake, for good; what stays can no longer be linked to them.

The mart forgets in one transaction, after the running batch and before the next one, so that scores stay exact and no
batch brings the customer back. Then the lake: first its copy of the erasure list, which conflicts with every landing
prepared before it; then the rows; then the files that contained them. Each step can be repeated.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values
from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.errors import StreamingError
from conf.lake import LAKE_PARTITION
from conf.settings import Settings
from conf.terminal import Table, number, prose
from lake.erasure_list import copy_to_lake, lake_list
from lake.table import ask, committed, find_lake, reaching
from mart.connection import as_owner, connect
from mart.erasure_list import ErasureList, read_list
from mart.score import lock_scores, score
from mart.session import session
from sql import one_row, statement

_RAW_AT_ONCE = 100
# A file that no version of the lake holds may be one that a landing writes right now; no commit takes an hour.
_STRAY_FILES_HOURS = 1


@dataclass(frozen=True)
class Stored:
    """What is stored about a customer: `invoices` in the mart, the newest dated `last_on`, older ones that are `pruned`
    but still counted, moves, quarantined records and rows of the lake that name them; `listed`: they were erased
    before."""

    invoices: int
    last_on: date | None
    pruned: int
    moves: int
    quarantined: int
    landed: int
    listed: bool

    def __str__(self) -> str:
        last = f", the last on {self.last_on}" if self.last_on else ""
        found = [f"{counted(self.invoices, 'invoice')}{last}"]
        found += [counted(self.pruned, "pruned invoice")] if self.pruned else []
        found += [counted(self.moves, "move"), counted(self.quarantined, "quarantined record")]
        return ", ".join([*found, f"{counted(self.landed, 'row')} of the lake"])

    @property
    def anything(self) -> bool:
        return bool(self.invoices or self.pruned or self.moves or self.quarantined or self.landed)


@dataclass(frozen=True)
class ErasedFromMart:
    """Rows that lost the customer (invoices, quarantined values) and rows deleted (customers, moves); `listed`
    customers are new on the erasure list; `moved` other customers changed segment because of it."""

    listed: int
    invoices: int
    customers: int
    moves: int
    quarantined: int
    moved: int
    at: datetime


@dataclass(frozen=True)
class ErasedFromLake:
    """Rows that lost the customer, files deleted from the storage, and the version without them."""

    rows: int
    files: int
    version: int
    at: datetime


@dataclass(frozen=True)
class Erased:
    """What an erasure did. `lake` is None if there is no lake."""

    mart: ErasedFromMart
    lake: ErasedFromLake | None


def look(settings: Settings, customer: str) -> Stored:
    """What erasing a customer would find now, as MART_OWNER_DSN. Changes nothing."""
    in_lake = find_lake(settings.lake)
    with _owner(settings) as connection, as_owner("erase"), connection, connection.cursor() as cursor:
        cursor.execute(statement("erase/select_stored"), {"customer": customer})
        invoices, last_on, pruned, moves = one_row(cursor)
        known = read_list(cursor)
        quarantined = len(_mentioning(connection, known.of_one(customer)))
    landed = 0 if in_lake is None else ask(in_lake, statement("erase/count_landed"), customer)[0][0].as_py()
    lists = (known, None if in_lake is None else lake_list(in_lake))
    listed = any(found is not None and found.names(customer) for found in lists)
    return Stored(invoices, last_on, pruned, moves, quarantined, landed, listed)


def check_known(customer: str, stored: Stored) -> None:
    """Raise StreamingError for an id that is neither stored anywhere nor on the erasure list: it is probably
    mistyped."""
    if not (stored.anything or stored.listed):
        raise StreamingError(
            f"customer {customer!r} is unknown: neither the mart, the quarantine, the lake nor the erasure list has "
            "this id, so nothing was changed. Ids are compared exactly, with capitals and leading zeros. To put it on "
            "the erasure list all the same, against records yet to come: `--accept-unknown`"
        )


def erase(settings: Settings, customer: str) -> Erased:
    """Erase one customer, as MART_OWNER_DSN, even one who was erased before or is unknown.

    Raises UnavailableError if PostgreSQL or the lake's storage is unavailable, StreamingError if the mart has no
    tables. What is done by then stays done: run it again.
    """
    with _owner(settings) as connection:
        listed, in_mart = erase_from_mart(connection, lambda known: known.of_one(customer))
        return Erased(in_mart, _in_lake(settings, listed, listed.of_one(customer)))


def erase_listed(settings: Settings) -> Erased:
    """Erase every customer on the mart's or the lake's list: for a mart that was restored from before an erasure, or
    recreated next to an existing lake.

    Raises StreamingError if the two lists have different salts, because then neither can continue the other.
    """
    with _owner(settings) as connection:
        in_lake = _lake_list(settings)
        with as_owner("erase"), connection, connection.cursor() as cursor:
            listed, in_mart = _forget_listed(connection, cursor, in_lake)
        return Erased(in_mart, _in_lake(settings, listed, listed))


def erase_listed_before_commit(settings: Settings, connection: Connection, cursor: Cursor) -> Erased:
    """As `erase_listed`, within the caller's transaction: mart and lake have forgotten before it commits."""
    with as_owner("erase"):
        listed, in_mart = _forget_listed(connection, cursor, _lake_list(settings))
    return Erased(in_mart, _in_lake(settings, listed, listed))


def _lake_list(settings: Settings) -> ErasureList | None:
    table = find_lake(settings.lake)
    return None if table is None else lake_list(table)


def _forget_listed(
    connection: Connection, cursor: Cursor, in_lake: ErasureList | None
) -> tuple[ErasureList, ErasedFromMart]:
    if in_lake is not None:
        _adopt_salt(cursor, in_lake)
    more = frozenset() if in_lake is None else in_lake.digests
    return _forget(connection, cursor, lambda known: ErasureList(known.salt, known.digests | more))


def erase_from_mart(
    connection: Connection, chosen: Callable[[ErasureList], ErasureList]
) -> tuple[ErasureList, ErasedFromMart]:
    """Put the chosen customers on the mart's list and forget them, in one transaction; returns the list as it is then.
    Raises StreamingError if the mart has no tables, or if the connection is not its owner's."""
    with as_owner("erase"), connection, connection.cursor() as cursor:
        return _forget(connection, cursor, chosen)


def _forget(
    connection: Connection, cursor: Cursor, chosen: Callable[[ErasureList], ErasureList]
) -> tuple[ErasureList, ErasedFromMart]:
    cursor.execute(statement("erase/lock_writers"))
    lock_scores(cursor)
    known = read_list(cursor)
    only = chosen(known)
    cursor.execute(statement("erase/extend_list"), {"digests": sorted(only.digests)})
    listed = cursor.rowcount
    customers = {"customers": _named(cursor, only)}
    cursor.execute(statement("erase/forget_invoices"), customers)
    invoices = cursor.rowcount
    cursor.execute(statement("erase/delete_carried"), customers)
    cursor.execute(statement("erase/delete_moves"), customers)
    moves = cursor.rowcount
    cursor.execute(statement("erase/delete_customers"), customers)
    (deleted,) = one_row(cursor)
    moved = score(cursor)
    quarantined = _forget_rejected(connection, cursor, only)
    cursor.execute(statement("erase/tell_pages"))
    done = ErasedFromMart(listed, invoices, deleted, moves, quarantined, moved, datetime.now(UTC))
    return ErasureList(known.salt, known.digests | only.digests), done


def erase_from_lake(table: DeltaTable, listed: ErasureList, only: ErasureList) -> ErasedFromLake:
    """Give the lake the list, null the customer in the rows of listed customers, and delete every file that the newest
    version no longer holds. Safe while landing runs; anyone reading an older version meanwhile must start again.

    Raises UnavailableError if the lake accepts no commit or is unavailable.
    """
    committed(table, lambda: copy_to_lake(table, listed))
    with reaching(table.table_uri):
        table.update_incremental()
        rows = sum(committed(table, partial(_forget_in_date, table, only, found)) for found in _dates(table, only))
        # What is there; of it at once what left the newest version; and what no version ever held, once it is old.
        there = set(committed(table, lambda: _vacuum(table, 0, full=True, dry_run=True)))
        gone = set(committed(table, lambda: _vacuum(table, 0, full=False)))
        gone |= set(committed(table, lambda: _vacuum(table, _STRAY_FILES_HOURS, full=True)))
        table.update_incremental()
    return ErasedFromLake(rows, len(gone & there), table.version(), datetime.now(UTC))


def describe(erased: Erased) -> RenderableType:
    """The receipt, for a terminal and for the files: it names nobody."""
    mart, lake = erased.mart, erased.lake
    table = Table("where", prose("what"), number("rows"), "done", title="Receipt of an erasure")
    for what, rows in (
        ("invoices: customer and digest removed", mart.invoices),
        ("customer, with scores and segment: deleted", mart.customers),
        ("moves between segments: deleted", mart.moves),
        ("quarantined records: value and detail removed", mart.quarantined),
        ("erasure list: customer added", mart.listed),
    ):
        table.add("mart", what, f"{rows:,}", f"{mart.at:%Y-%m-%d %H:%M:%S} UTC")
    if lake is not None:
        done = f"{lake.at:%Y-%m-%d %H:%M:%S} UTC"
        table.add("lake", "invoices: customer and digest removed", f"{lake.rows:,}", done)
        table.add("lake", f"files of older versions deleted; now version {lake.version}", f"{lake.files:,}", done)
    notes = [f"{counted(mart.moved, 'other customer')} changed segment"]
    if lake is None:
        notes.append("there is no lake")
    notes.append("not reached from here: the topic until its retention, backups, archived WAL, the store's own files")
    return Group(table, Text("\n".join(notes), style="dim"))


def _owner(settings: Settings) -> AbstractContextManager[Connection]:
    return session(settings.require_mart("owner"), "retail-mart erase", connect)


def _in_lake(settings: Settings, listed: ErasureList, only: ErasureList) -> ErasedFromLake | None:
    table = find_lake(settings.lake)
    return None if table is None else erase_from_lake(table, listed, only)


def _adopt_salt(cursor: Cursor, in_lake: ErasureList) -> None:
    cursor.execute(statement("erase/lock_writers"))
    in_mart = read_list(cursor)
    if hmac.compare_digest(in_mart.salt, in_lake.salt):
        return
    if in_mart.digests and in_lake.digests:
        raise StreamingError(
            "the mart and the lake have erasure lists of different origin, and neither can be read with the "
            "other's salt: erase each customer of your receipts anew, `retail-mart erase CUSTOMER --accept-unknown`"
        )
    if in_lake.digests:
        cursor.execute(statement("erase/set_salt"), {"salt": in_lake.salt})


def _named(cursor: Cursor, only: ErasureList) -> list[str]:
    """Customers of the list whom the mart may still name."""
    if only.ids is not None:
        return sorted(only.ids)
    cursor.execute(statement("erase/select_customers"), {"digests": sorted(only.digests)})
    return [customer for (customer,) in cursor.fetchall()]


def _forget_rejected(connection: Connection, cursor: Cursor, only: ErasureList) -> int:
    mentioning = _mentioning(connection, only)
    if mentioning:
        execute_values(cursor, statement("erase/forget_rejected"), mentioning, page_size=500)
    return len(mentioning)


def _mentioning(connection: Connection, only: ErasureList) -> list[tuple[str, int, int]]:
    """The coordinates of the quarantined records whose value names a customer of the list."""
    with connection.cursor("quarantine") as values:  # on the server: it may be large
        values.itersize = _RAW_AT_ONCE
        values.execute(statement("erase/select_raw"))
        return [row[:3] for row in values if only.is_mentioned(bytes(row[3]))]


def _dates(table: DeltaTable, only: ErasureList) -> list[date]:
    """The business dates on which the lake names a customer of the list."""
    found: set[date] = set()
    if only.digests:
        for rows in table.to_pyarrow_dataset().to_batches(columns=["customer_id", LAKE_PARTITION]):
            found |= set(rows[LAKE_PARTITION].filter(only.named_in(rows["customer_id"])).to_pylist())
    return sorted(found)


def _forget_in_date(table: DeltaTable, only: ErasureList, business_date: date) -> int:
    """Rewrite one date's rows without the customers; landings into other dates do not conflict with it. An update would
    leave its condition in Delta's log, and not every engine can read the text columns that it writes."""
    written = pa.schema(table.schema().to_arrow())  # which may be an older version's
    rows = table.to_pyarrow_dataset().to_table(filter=ds.field(LAKE_PARTITION) == business_date).cast(written)
    named = int(pc.sum(only.named_in(rows["customer_id"])).as_py() or 0)
    if named:
        predicate = f"{LAKE_PARTITION} = '{business_date}'"
        write_deltalake(table, only.forget_in(rows), mode="overwrite", predicate=predicate)
    return named


def _vacuum(table: DeltaTable, retention_hours: int, full: bool, dry_run: bool = False) -> list[str]:
    """Delete the files that left the newest version (listed even if gone), with `full` also those of no version."""
    # The table's own retention is for readers of older versions; these must not be read any more.
    return table.vacuum(retention_hours, dry_run=dry_run, full=full, enforce_retention_duration=False)
