"""Repair: rebuild the mart from the lake, in temporary tables, and correct its rows in one transaction.

Writers wait meanwhile: the transaction holds the rows that they lock first, so the next offsets do not move, and the
next batch continues from them. Readers see the old mart until the commit. Before the commit the result is compared with
the lake by `verify`'s own comparison, and is not committed unless it is equal. An interrupted repair has changed
nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values
from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.errors import StreamingError
from conf.kafka import Brokers
from conf.phases import Phases
from conf.scratch import scratch
from conf.segments import segment_scores
from conf.settings import Settings
from conf.terminal import Table, number
from lake.erasure_list import lake_list
from lake.files import kept_since
from lake.table import existing_lake
from lake.table import read_next_offsets as read_landed
from mart.connection import application_name, as_owner, connect
from mart.erasure_list import ErasureList
from mart.next_offsets import advance, take_over
from mart.quarantine import Rejected, quarantine
from mart.reject_reason import RejectReason
from mart.score import lock_scores, record_check, score_all
from mart.session import session
from mart.shop_rules import adopt_rules
from operations.verify import (
    CONFLICT,
    NextOffset,
    NothingAppliedError,
    Pins,
    Verified,
    caught_up,
    compare,
    read_mart,
    read_pins,
    recompute,
)
from sql import one_row, statement
from topic.describe import Topic, describe_topic
from topic.offsets import in_words

# A lake that lacks a larger share of the mart's invoices than this is taken for the wrong one.
_MOST_REMOVED_SHARE = 0.01
_FEW = 10


@dataclass(frozen=True)
class Replaced:
    """Rows that a table removed, corrected and added, and customers who `moved` to another segment because of it."""

    removed: Mapping[str, int]
    corrected: Mapping[str, int]
    added: Mapping[str, int]
    moved: int


@dataclass(frozen=True)
class Repaired:
    """What was done to the mart: what was `replaced`; copies with other content put into `quarantined`; `next_offsets`
    at which the stream continues; `kept_in`: the folder with the replaced rows as CSV, None if there were none;
    `verified`: the comparison of the result, before the commit, with the seconds of all phases."""

    replaced: Replaced
    quarantined: int
    next_offsets: Sequence[NextOffset]
    kept_in: Path | None
    verified: Verified


def repair(
    settings: Settings,
    wait_seconds: float,
    accept_loss: bool = False,
    on_phase: Callable[[str], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Repaired:
    """Make the mart what it must be according to the lake, at the mart's own next offsets, or for a new mart at the
    lake's.

    Runs as MART_OWNER_DSN, also while the stream runs, which waits. Writes what it replaces as CSV to MART_HOME/repair.
    Raises StreamingError, having changed nothing, if the lake does not land what the mart has applied within
    `wait_seconds`, if it lacks more than 1 % of the mart's invoices (unless `accept_loss`), or if the result would not
    equal it; UnavailableError if PostgreSQL is unavailable.
    """
    folder = settings.mart_home / "repair" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        with session(settings.require_mart("owner"), "retail-mart repair", connect) as connection, as_owner("repair"):
            return _repair(connection, settings, wait_seconds, accept_loss, folder, Phases(on_phase), tell)
    except StreamingError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _repair(
    connection: Connection,
    settings: Settings,
    wait_seconds: float,
    accept_loss: bool,
    keep_in: Path,
    phases: Phases,
    tell: Callable[[str], None],
) -> Repaired:
    with (
        scratch(settings.scratch, "repair") as folder,
        duckdb.connect() as engine,
        connection,
        connection.cursor() as cursor,
    ):
        with phases("wait for the running batch"):
            cursor.execute(statement("erase/lock_writers"))
            lock_scores(cursor)
        try:
            pins = read_pins(cursor, folder, engine)
        except NothingAppliedError:
            _begin_where_the_lake_is(cursor, settings)
            pins = read_pins(cursor, folder, engine)
        with phases("wait for the lake"):
            table = caught_up(settings.lake, pins.next_offsets, wait_seconds, tell)
            _check_erasure_list(pins.erased, table)
        with phases("recompute from the lake"):
            if kept_since(table):
                read_mart(cursor, folder, engine)
            unlanded = recompute(engine, table, pins)
        with phases("build the mart beside the old one"):
            _stage(cursor, engine, folder, pins, unlanded.lake_kept_since)
        with phases("put it in place"):
            _check_loss(cursor, settings.lake, accept_loss)
            kept_in = _keep_replaced(cursor, keep_in)
            replaced = _replace(cursor)
        with phases("compare"):
            read_mart(cursor, folder, engine)
            found = compare(engine, table, unlanded, shown=10)
            quarantined = _quarantine_conflicts(cursor, engine, pins)
        verified = _with_conflicts_settled(found, quarantined, phases)
        if not verified.equal:
            raise StreamingError(
                f"the rebuilt mart would not equal the lake ({_differences(verified)}), so nothing was changed. This "
                "is a bug: please report it, with what `retail-mart verify` prints"
            )
        record_check(cursor)  # what the check before found is over, and the alert with it
        cursor.execute(statement("erase/tell_pages"))
    return Repaired(replaced, quarantined, pins.next_offsets, kept_in, verified)


def _with_conflicts_settled(found: Verified, quarantined: int, phases: Phases) -> Verified:
    return replace(
        found,
        rows={**found.rows, CONFLICT: found.rows[CONFLICT] + quarantined},
        differing={**found.differing, CONFLICT: 0},
        seconds=phases.seconds,
    )


def _begin_where_the_lake_is(cursor: Cursor, settings: Settings) -> None:
    """For a mart without next offsets: take the lake's, of the topic as the broker knows it, under today's rules."""
    topic = describe_topic(Brokers.of(settings), settings.kafka_topic)
    landed = read_landed(existing_lake(settings.lake), topic, topic.end_offsets)
    if not landed:
        raise StreamingError(
            f"neither the mart nor the lake at {settings.lake} has next offsets of topic {topic.name!r} "
            f"(id {topic.topic_id}): there is nothing to build the mart from"
        )
    adopt_rules(cursor, settings)
    advance(cursor, take_over(cursor, topic, f"{application_name()} (repair)"), landed)


def _check_erasure_list(in_mart: ErasureList, table: DeltaTable) -> None:
    in_lake = lake_list(table)
    if in_lake is not None and not in_lake.digests <= in_mart.digests:
        raise StreamingError(
            "the lake's erasure list names customers whom the mart's does not: first run `retail-mart erase "
            "--listed`. Nothing was changed"
        )


def _stage(
    cursor: Cursor, engine: duckdb.DuckDBPyConnection, folder: Path, pins: Pins, lake_kept_since: date | None
) -> None:
    """Write the invoices and customers as they must be to temporary tables."""
    engine.execute(statement("verify/export_invoices").format(folder=folder))
    with (folder / "landed.csv").open("rb") as rows:
        cursor.copy_expert(statement("apply/copy_staged"), rows)
    if lake_kept_since:
        cursor.execute(statement("repair/stage_unlanded"), {"lake_kept_since": lake_kept_since})
    cursor.execute(statement("repair/analyze_stage"))
    customers = statement("apply/recounted_customers").format(invoices="staged_invoice")
    cursor.execute(
        statement("repair/create_recounted").format(customers=customers), {"returns_policy": pins.returns_policy}
    )


def _check_loss(cursor: Cursor, lake: str, accept_loss: bool) -> None:
    cursor.execute(statement("repair/count_unknown"))
    unknown, invoices = one_row(cursor)
    if unknown > max(_FEW, _MOST_REMOVED_SHARE * invoices) and not accept_loss:
        raise StreamingError(
            f"the lake at {lake} lacks {unknown:,} of the mart's {counted(invoices, 'invoice')}, which a repair would "
            "remove: is it the mart's own lake, landed from the first record on? Nothing was changed. If it is right: "
            "`retail-mart verify --repair --accept-loss`"
        )


def _keep_replaced(cursor: Cursor, folder: Path) -> Path | None:
    """Save what will be replaced as files in the folder; None if nothing will be."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("invoices", "customers"):
        file = folder / f"replaced_{name}.csv"
        with file.open("wb") as rows:
            cursor.copy_expert(statement(f"repair/copy_replaced_{name}"), rows)
        if not cursor.rowcount:
            file.unlink()
    if any(folder.iterdir()):
        return folder
    folder.rmdir()
    return None


def _replace(cursor: Cursor) -> Replaced:
    """Make the mart's rows those of the temporary tables. Rows that are already right stay untouched, with their ids
    and times; so do views, permissions and history."""
    removed: dict[str, int] = {}
    corrected: dict[str, int] = {}
    added: dict[str, int] = {}
    for table, delete, correct, insert in (
        ("invoice", "repair/delete_invoices", "repair/correct_invoices", "apply/insert_invoices"),
        ("customer", "repair/delete_customers", "repair/correct_customers", "repair/insert_customers"),
    ):
        for name, rows in ((delete, removed), (correct, corrected), (insert, added)):
            cursor.execute(statement(name))
            rows[table] = cursor.rowcount
    cursor.execute(statement("repair/count_shop"))
    cursor.execute(statement("repair/forget_scores"))
    execute_values(cursor, statement("migrate/fill_segment_score"), list(segment_scores()))
    return Replaced(removed, corrected, added, score_all(cursor, "repaired"))


def _quarantine_conflicts(cursor: Cursor, engine: duckdb.DuckDBPyConnection, pins: Pins) -> int:
    """Copies with other content that are missing from the quarantine; returns how many. The lake keeps no raw values,
    so they have none."""
    quarantined = 0
    topics = {p.topic: p.topic_id for p in pins.next_offsets}
    for topic, topic_id in topics.items():
        rows = engine.execute(statement("verify/select_conflicts"), {"topic": topic}).fetchall()
        lost = [
            Rejected(
                partition,
                offset,
                kafka_timestamp,
                RejectReason.CONFLICTING_DUPLICATE,
                f"invoice {invoice!r} was applied from partition {first_partition} offset {first_offset} "
                "(found by a repair, in the lake)",
                None,
            )
            for partition, offset, kafka_timestamp, invoice, first_partition, first_offset in rows
        ]
        if lost:
            quarantine(cursor, Topic(topic, topic_id, {}, {}), lost)
            quarantined += len(lost)
    return quarantined


def _differences(verified: Verified) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in verified.differing.items() if count)


def describe(done: Repaired) -> RenderableType:
    """What was done, for a terminal."""
    table = Table("what", number("removed"), number("corrected"), number("added"), title="Repair of the mart")
    replaced = done.replaced
    for name, removed in replaced.removed.items():
        table.add(f"{name}s", f"{removed:,}", f"{replaced.corrected[name]:,}", f"{replaced.added[name]:,}")
    notes = [
        f"every customer rescored, cuts and totals rebuilt; {counted(replaced.moved, 'customer')} changed segment",
        f"the stream goes on in {in_words((p.topic, p.partition, p.next_offset) for p in done.next_offsets)}",
    ]
    if done.quarantined:
        notes.insert(1, f"{counted(done.quarantined, 'record')} of other content quarantined")
    if done.kept_in:
        notes.append(f"the replaced rows are in {done.kept_in}")
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.verified.seconds.items())
    return Group(
        table,
        Text("\n".join(notes)),
        Text(phases, style="dim"),
        Text("equal now: every row, every column, to the cent", "bold green"),
    )
