"""Verify: recompute every invoice and customer from the lake with another engine, and compare all of them with the
mart.

DuckDB reads the Delta table at the mart's own next offsets: both ends are pinned, so traffic may continue meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import duckdb
import pandas as pd
from deltalake import DeltaTable
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.errors import StreamingError
from conf.line_rules import admin_codes
from conf.phases import Phases
from conf.scratch import scratch
from conf.segments import segment_scores
from conf.settings import Settings
from conf.terminal import Table, number, prose
from lake.files import kept_since
from lake.table import existing_lake, landed_rows, reaching, read_next_offsets
from mart.erasure_list import ErasureList, read_list
from mart.session import session
from sql import columns, statement
from topic.describe import Topic

_NOT_EQUAL = "NOT equal (next: `retail-mart verify --repair`); the first differences:"
_LAND = "is landing running? It can catch up alone: `retail-mart run --only land --available-now`"
_POLL_SECONDS = 1
_TELL_SECONDS = 15
_STUCK_SECONDS = 75  # a running job lands each LANDING_TRIGGER_SECONDS, by default 60


@dataclass(frozen=True)
class _Compared:
    """One table of the comparison: its key, the columns to compare, and the engine's table with the expected rows."""

    key: str
    columns: tuple[str, ...]
    from_lake: str


_COMPARED = {
    "invoice": _Compared(
        "invoice",
        ("customer_id", *columns("apply/invoice_content"), "content_sha256"),
        "landed_invoice",
    ),
    "customer": _Compared(
        "customer_id",
        ("frequency", "monetary", "last_purchase", "r", "f", "m", "segment"),
        "recomputed_customer",
    ),
    "cut": _Compared(
        "cut",
        ("customers", "r_value", "r_customer_id", "f_value", "f_customer_id", "m_value", "m_customer_id"),
        "recomputed_cut",
    ),
    "score": _Compared("score", ("customers", "monetary"), "recomputed_score"),
    "total": _Compared("total", ("invoices", "purchased", "returned", "newest_invoice_date"), "recomputed_total"),
}
CONFLICT = "conflict"
_LABELS = {
    "invoice": "invoices",
    "customer": "customers",
    "cut": "quintile cuts",
    "score": "totals by scores",
    "total": "totals of the shop",
    CONFLICT: "conflicting copies",
}


class NothingAppliedError(StreamingError):
    """The mart is new: it has no next offsets."""


@dataclass(frozen=True)
class Difference:
    """One value in which mart and lake differ (`table`, `key`, which column or what is missing), as text.

    `invoices`: for a customer, the invoices that differ, which explain it.
    """

    table: str
    key: str
    difference: str
    mart: str | None
    lake: str | None
    invoices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unlanded:
    """The mart's invoices about which the lake says nothing: `invoices` are from before `lake_kept_since` and were
    taken as they are; `pruned` are no longer in the mart, and their carried sums were used."""

    lake_kept_since: date | None
    invoices: int
    pruned: int


@dataclass(frozen=True)
class Verified:
    """What was compared: rows of the mart, differing rows per table, the first differences; `seconds` per phase."""

    lake_version: int
    unlanded: Unlanded
    rows: Mapping[str, int]
    differing: Mapping[str, int]
    first: Sequence[Difference]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not any(self.differing.values())


@dataclass(frozen=True)
class NextOffset:
    """The first offset of a topic's partition that the mart has not applied."""

    topic: str
    topic_id: str
    partition: int
    next_offset: int


@dataclass(frozen=True)
class Pins:
    """What the mart says about how to recompute it: up to which offsets, under which policy, with which latest invoice
    date for the as-of date, and without whom."""

    next_offsets: list[NextOffset]
    returns_policy: str
    clock_limit: datetime
    erased: ErasureList


def verify(
    settings: Settings,
    wait_seconds: float,
    shown: int = 10,
    on_phase: Callable[[str], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Verified:
    """Compare the mart, as it is now, with what it must be according to the lake: every invoice, customer, cut and
    total, every column, and whether each copy of an invoice with other content is in quarantine.

    Waits up to `wait_seconds` for the lake to land what the mart has applied, and says so. Raises StreamingError if it
    does not, or if there is no lake; NothingAppliedError if the mart is new; UnavailableError if PostgreSQL is
    unavailable.
    """
    phases = Phases(on_phase)
    with scratch(settings.scratch, "verify") as folder, duckdb.connect() as engine:
        with phases("read the mart"), _snapshot(settings.require_mart()) as cursor:
            pins = read_pins(cursor, folder, engine)
            read_mart(cursor, folder, engine)
        with phases("wait for the lake"):
            table = caught_up(settings.lake, pins.next_offsets, wait_seconds, tell)
        with phases("recompute from the lake"):
            unlanded = recompute(engine, table, pins)
        with phases("compare"):
            verified = compare(engine, table, unlanded, shown)
    return replace(verified, seconds=phases.seconds)


@contextmanager
def _snapshot(dsn: str) -> Iterator[Cursor]:
    """A cursor that sees the mart at one moment."""
    with session(dsn, "retail-mart verify") as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            yield cursor


def read_pins(cursor: Cursor, folder: Path, engine: duckdb.DuckDBPyConnection) -> Pins:
    """What the recomputation needs of the mart; the engine gets its tables refused, applied, erased, pruned, carried
    and pruned_total, and an empty next_offset. Raises NothingAppliedError if there are no next offsets."""
    cursor.execute(statement("verify/select_next_offsets"))
    next_offsets = [NextOffset(*row) for row in cursor.fetchall()]
    cursor.execute(statement("verify/select_shop"))
    row = cursor.fetchone()
    if row is None or not next_offsets:
        raise NothingAppliedError(
            "the mart has applied nothing yet, so there is nothing to verify: start `retail-mart run`"
        )
    for name in ("refused", "applied", "pruned", "carried", "pruned_total"):
        _copy(cursor, name, folder)
    engine.execute(statement("verify/load_pins").format(folder=folder))
    erased = read_list(cursor)
    if erased.digests:
        engine.executemany("INSERT INTO erased VALUES (?)", [[digest] for digest in sorted(erased.digests)])
    return Pins(next_offsets, str(row[0]), row[1], erased)


def read_mart(cursor: Cursor, folder: Path, engine: duckdb.DuckDBPyConnection) -> None:
    """Load what will be compared into the engine's tables mart_invoice, mart_customer, mart_cut, mart_score,
    mart_total."""
    for name in _COMPARED:
        _copy(cursor, name, folder)
    invoice_columns = dict.fromkeys((_COMPARED["invoice"].key, *_COMPARED["invoice"].columns), "VARCHAR")
    engine.execute(statement("verify/load_mart").format(folder=folder, invoice_columns=invoice_columns))


def _copy(cursor: Cursor, name: str, folder: Path) -> None:
    with (folder / f"{name}.csv").open("wb") as out:
        cursor.copy_expert(statement(f"verify/copy_{name}"), out)


def caught_up(
    path: str, next_offsets: list[NextOffset], wait_seconds: float, tell: Callable[[str], None] = lambda _: None
) -> DeltaTable:
    """The lake, once it has landed everything before the next offsets. `tell` is called with what it waits for and,
    from time to time, with its progress.

    Raises StreamingError if it takes longer than `wait_seconds`.
    """
    began, wait = time.monotonic(), LandingWait(wait_seconds)
    while True:
        table = existing_lake(path)
        behind = sum(max(0, p.next_offset - _landed(table, p)) for p in next_offsets)
        if not behind:
            return table
        waited = time.monotonic() - began
        if waited > wait_seconds:
            raise StreamingError(
                f"the lake at {path} is {counted(behind, 'record')} behind the mart after {wait_seconds:g} s: {_LAND}"
            )
        if news := wait.news(behind, waited):
            tell(news)
        time.sleep(_POLL_SECONDS)


class LandingWait:
    """What was reported about a wait for the lake, and what is worth reporting next."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds, self._behind = wait_seconds, -1
        self._told_at = self._moved_at = 0.0

    def news(self, behind: int, waited: float) -> str:
        """What to tell after so many seconds; nothing, if it is too soon."""
        how_far = f"the lake is {counted(behind, 'record')} behind the mart"
        if self._behind < 0:
            self._behind = behind
            return f"{how_far}: waiting for landing, up to {self._wait_seconds:g} s (Ctrl-C ends)"
        if behind != self._behind:
            self._behind, self._moved_at = behind, waited
        if waited - self._told_at < _TELL_SECONDS:
            return ""
        self._told_at = waited
        still = waited - self._moved_at
        stuck = f"; nothing has landed for {still:.0f} s: {_LAND}" if still > _STUCK_SECONDS else ""
        return f"{how_far}, {self._wait_seconds - waited:.0f} s left{stuck}"


def _landed(table: DeltaTable, next_offset: NextOffset) -> int:
    topic = Topic(next_offset.topic, next_offset.topic_id, {}, {})
    return read_next_offsets(table, topic, [next_offset.partition]).get(next_offset.partition, 0)


def recompute(engine: duckdb.DuckDBPyConnection, table: DeltaTable, pins: Pins) -> Unlanded:
    """From the lake, as it must be at the mart's next offsets: the engine's tables landed_copy, landed_invoice,
    recomputed_customer, recomputed_cut, recomputed_score, recomputed_total. Invoices older than a pruned lake are taken
    from mart_invoice."""
    engine.executemany(
        "INSERT INTO next_offset VALUES (?, ?, ?, ?)",
        [(p.topic, p.partition, p.next_offset, _landed(table, p)) for p in pins.next_offsets],
    )
    engine.register("lake", landed_rows(table))
    engine.register("segment_score", pd.DataFrame(list(segment_scores()), columns=["r", "f", "m", "segment"]))
    with reaching(table.table_uri):
        engine.execute(statement("verify/landed_copies"), {"salt": pins.erased.salt})
        engine.execute(statement("verify/landed_invoices"), {"admin_codes": list(admin_codes())})
    since, not_in_lake = kept_since(table), 0
    if since:
        taken = engine.execute(statement("verify/take_unlanded"), {"lake_kept_since": since})
        [(not_in_lake,)] = taken.fetchall()
    engine.execute(statement("verify/recomputed_customers"), {"returns_policy": pins.returns_policy})
    engine.execute(statement("verify/recomputed_totals"))
    engine.execute(statement("verify/recomputed_shop"), {"clock_limit": pins.clock_limit})
    return Unlanded(since, not_in_lake, _count(engine, "SELECT count(*) FROM pruned"))


def compare(engine: duckdb.DuckDBPyConnection, table: DeltaTable, unlanded: Unlanded, shown: int) -> Verified:
    """Compare what was read with what was recomputed."""
    for name, compared in _COMPARED.items():
        columns = ", ".join(
            f"{{'difference': '{column}', 'mart': m.{column}::VARCHAR, 'lake': l.{column}::VARCHAR}}"
            for column in compared.columns
        )
        values = {"table": name, "key": compared.key, "lake": compared.from_lake, "columns": columns}
        engine.execute(statement("verify/differences").format(**values))
    engine.execute(statement("verify/conflict_differences"))
    rows = {name: _count(engine, f"SELECT count(*) FROM mart_{name}") for name in _COMPARED}  # noqa: S608
    rows[CONFLICT] = _count(engine, "SELECT count(*) FROM refused WHERE reason = 'conflicting_duplicate'")
    differing = {name: _count(engine, f"SELECT count(DISTINCT key) FROM {name}_difference") for name in rows}  # noqa: S608
    first = [difference for name in rows if differing[name] for difference in _first_differences(engine, name, shown)]
    return Verified(table.version(), unlanded, rows, differing, first)


def _first_differences(engine: duckdb.DuckDBPyConnection, table: str, shown: int) -> list[Difference]:
    found = engine.execute(statement("verify/first_differences").format(table=table), {"shown": shown}).fetchall()
    return [
        Difference(table, key, difference, mart, lake, tuple(invoices or ()))
        for key, difference, mart, lake, invoices in found
    ]


def _count(engine: duckdb.DuckDBPyConnection, query: str) -> int:
    [(count,)] = engine.execute(query).fetchall()
    return int(count)


def describe(verified: Verified) -> RenderableType:
    """What was found, for a terminal."""
    table = Table(
        "what", number("in the mart"), number("differences"),
        title=f"The mart against the lake, version {verified.lake_version}",
    )  # fmt: skip
    for name, rows in verified.rows.items():
        table.add(_LABELS[name], f"{rows:,}", f"{verified.differing[name]:,}")
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in verified.seconds.items())
    unlanded = verified.unlanded
    if unlanded.invoices:
        phases += (
            f"\n{counted(unlanded.invoices, 'invoice')} from before the lake begins ({unlanded.lake_kept_since}): "
            "taken as the mart has them"
        )
    if unlanded.pruned:
        phases += f"\n{counted(unlanded.pruned, 'pruned invoice')}: their carried totals were used"
    if verified.equal:
        return Group(
            table, Text(phases, style="dim"), Text("equal: every row, every column, to the cent", "bold green")
        )
    first = Table("table", "key", prose("difference"), "mart", "lake", prose("explained by invoices"))
    for d in verified.first:
        first.add(d.table, d.key, d.difference, d.mart or "", d.lake or "", ", ".join(d.invoices))
    return Group(table, Text(phases, style="dim"), Text(_NOT_EQUAL, "bold red"), first)
