"""Verify: recompute every invoice and customer from the lake by another engine, and compare all with the mart.

DuckDB over the Delta table, at the mart's own positions: both ends are pinned, so traffic may flow meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import psycopg2
from deltalake import DeltaTable
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conf.line_rules import admin_codes
from conf.segments import segment_scores
from conf.settings import Settings
from sql import statement
from streaming.errors import AwayError, StreamingError
from streaming.land import existing_lake, kept_since, read_positions
from streaming.source import Topic

_POLL_SECONDS = 1
_COLUMNS = {
    "invoice": (
        "invoice_date",
        "customer_id",
        "line_count",
        "counting_lines",
        "purchased",
        "returned",
        "content_sha256",
    ),
    "customer": ("frequency", "monetary", "last_purchase", "r", "f", "m", "segment"),
}
_KEYS = {"invoice": "invoice", "customer": "customer_id"}
_LAKE_TABLES = {"invoice": "landed_invoice", "customer": "recomputed_customer"}


@dataclass(frozen=True)
class Difference:
    """One value in which mart and lake differ (`table`, `key`, which column or what is missing), as text.

    `invoices`: of a customer, the invoices that differ, which explain it.
    """

    table: str
    key: str
    difference: str
    mart: str | None
    lake: str | None
    invoices: tuple[str, ...] = ()


@dataclass
class Verified:
    """What was compared: rows of the mart, differing rows a table, the first differences, seconds a phase.

    Of the mart's invoices `not_in_lake` are from before `lake_kept_since` and were taken as they are; `pruned` are no
    longer in the mart, and what they came to was taken as it is carried there.
    """

    lake_version: int = 0
    lake_kept_since: date | None = None
    not_in_lake: int = 0
    pruned: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not any(self.differing.values())


@dataclass(frozen=True)
class _Position:
    topic: str
    topic_id: str
    partition: int
    next_offset: int


def verify(
    settings: Settings, wait_seconds: float, shown: int = 10, on_phase: Callable[[str], None] = lambda _: None
) -> Verified:
    """Compare the mart, as it is now, with what the lake says it must be: every invoice, every customer, every column.

    Waits up to `wait_seconds` for the lake to land what the mart has applied. Raises StreamingError if it does not,
    or there is no lake; AwayError if PostgreSQL does not answer.
    """
    found = Verified()
    with tempfile.TemporaryDirectory(prefix="mart-verify-") as folder, duckdb.connect() as engine:

        @contextmanager
        def phase(name: str) -> Iterator[None]:
            on_phase(name)
            start = time.perf_counter()
            yield
            found.seconds[name] = round(time.perf_counter() - start, 2)

        with phase("read the mart"):
            positions, returns_policy = _read_mart(settings.require_mart(), Path(folder), engine)
        with phase("wait for the lake"):
            table = _caught_up(settings.lake, positions, wait_seconds)
            found.lake_version = table.version()
        with phase("recompute from the lake"):
            engine.register("lake", table.to_pyarrow_dataset())
            engine.register("segment_score", pd.DataFrame(list(segment_scores()), columns=["r", "f", "m", "segment"]))
            product_line = statement("duckdb/product_line")
            engine.execute(
                statement("verify/landed_invoices").format(product_line=product_line),
                {"admin_codes": list(admin_codes())},
            )
            [(found.pruned,)] = engine.execute("SELECT count(*) FROM pruned").fetchall()
            found.lake_kept_since = kept_since(table)
            if found.lake_kept_since:
                taken = engine.execute(statement("verify/take_unlanded"), {"lake_kept_since": found.lake_kept_since})
                [(found.not_in_lake,)] = taken.fetchall()
            engine.execute(statement("verify/recomputed_customers"), {"returns_policy": returns_policy})
        with phase("compare"):
            for table_name in _COLUMNS:
                _compare(engine, table_name, found)
            found.first = _first(engine, shown)
    return found


def _read_mart(dsn: str, folder: Path, engine: duckdb.DuckDBPyConnection) -> tuple[list[_Position], str]:
    """The mart of one snapshot into the engine's tables mart_invoice, mart_customer, conflict, pruned, carried and
    stream_position."""
    try:
        with closing(psycopg2.connect(dsn, application_name="retail-mart verify", connect_timeout=10)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute(statement("verify/select_positions"))
                positions = [_Position(*row) for row in cursor.fetchall()]
                cursor.execute(statement("verify/select_shop"))
                row = cursor.fetchone()
                if row is None or not positions:
                    raise StreamingError("the mart has applied nothing yet: there is nothing to verify")
                for name in ("invoices", "customers", "conflicts", "pruned", "carried"):
                    _copy(cursor, name, folder / f"{name}.csv")
    except psycopg2.errors.UndefinedTable:
        raise StreamingError("the mart has no tables yet: run `python -m streaming migrate`") from None
    except psycopg2.OperationalError as error:
        raise AwayError(f"PostgreSQL does not answer: {' '.join(str(error).split())}") from None
    engine.execute(statement("verify/load_mart").format(folder=folder))
    engine.executemany(
        "INSERT INTO stream_position VALUES (?, ?, ?)", [(p.topic, p.partition, p.next_offset) for p in positions]
    )
    return positions, str(row[0])


def _copy(cursor: Cursor, name: str, file: Path) -> None:
    with file.open("wb") as out:
        cursor.copy_expert(statement(f"verify/copy_{name}"), out)


def _caught_up(path: str, positions: list[_Position], wait_seconds: float) -> DeltaTable:
    """The lake, once it has landed everything before the positions."""
    deadline = time.monotonic() + wait_seconds
    while True:
        table = existing_lake(path)
        behind = sum(
            max(0, p.next_offset - read_positions(table, _topic(p), [p.partition]).get(p.partition, 0))
            for p in positions
        )
        if not behind:
            return table
        if time.monotonic() > deadline:
            raise StreamingError(
                f"the lake at {path} is {behind} records behind the mart after {wait_seconds:g} s: is landing running? "
                "It can catch up alone: `python -m streaming run --only land --available-now`"
            )
        time.sleep(_POLL_SECONDS)


def _topic(position: _Position) -> Topic:
    return Topic(position.topic, position.topic_id, {}, {})


def _compare(engine: duckdb.DuckDBPyConnection, table: str, found: Verified) -> None:
    columns = ", ".join(
        f"{{'difference': '{name}', 'mart': m.{name}::VARCHAR, 'lake': l.{name}::VARCHAR}}" for name in _COLUMNS[table]
    )
    values = {"table": table, "key": _KEYS[table], "lake": _LAKE_TABLES[table], "columns": columns}
    engine.execute(statement("verify/differences").format(**values))
    [(found.rows[table],)] = engine.execute(f"SELECT count(*) FROM mart_{table}").fetchall()  # noqa: S608
    [(found.differing[table],)] = engine.execute(
        f"SELECT count(DISTINCT key) FROM {table}_difference"  # noqa: S608
    ).fetchall()


def _first(engine: duckdb.DuckDBPyConnection, shown: int) -> list[Difference]:
    rows = engine.execute(statement("verify/first_differences"), {"shown": shown}).fetchall()
    return [
        Difference(table, key, difference, mart, lake, tuple(invoices or ()))
        for table, key, difference, mart, lake, invoices in rows
    ]


def describe(verified: Verified) -> RenderableType:
    """What was found, for a terminal."""
    table = Table("", "in the mart", "differing", title_justify="left")
    table.title = f"the mart against the lake, version {verified.lake_version}"
    for column in table.columns[1:]:
        column.justify = "right"
    for name, rows in verified.rows.items():
        table.add_row(f"{name}s", f"{rows:,}", f"{verified.differing[name]:,}")
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in verified.seconds.items())
    if verified.not_in_lake:
        phases += (
            f"\n{verified.not_in_lake:,} invoices are older than the lake (since {verified.lake_kept_since}): taken as "
            "the mart has them"
        )
    if verified.pruned:
        phases += f"\n{verified.pruned:,} invoices are pruned: what they came to was taken as the mart carries it"
    if verified.equal:
        return Group(
            table, Text(phases, style="dim"), Text("equal: every row, every column, to the cent", "bold green")
        )
    first = Table("table", "key", "difference", "mart", "lake", "explained by invoices")
    for d in verified.first:
        first.add_row(d.table, d.key, d.difference, d.mart or "", d.lake or "", ", ".join(d.invoices))
    return Group(table, Text(phases, style="dim"), Text("NOT equal; the first differences:", "bold red"), first)
