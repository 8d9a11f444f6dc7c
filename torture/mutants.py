"""Mutants: the job with one guard removed. Each must turn a scenario red, or the scenario proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import psycopg2

import mart.score as score
import sql
import streaming.apply as apply
import streaming.apply_job as apply_job
import streaming.land as land
import streaming.land_job as land_job
from conf.settings import settings
from lake.table import advance as advance_lake
from mart.next_offsets import advance as advance_next_offsets
from mart.quarantine import quarantine as real_quarantine


def _no_fence() -> None:
    _replace(apply, "check_fence", lambda cursor, writer: None)


def _no_offset_check() -> None:
    """The batch is taken as it comes, from wherever the reading began: here, from the topic's start."""
    _replace(apply, "due_records", lambda batch, covered, next_offsets: batch)
    _replace(apply_job, "read_next_offsets", lambda cursor, topic: {})


def _no_on_conflict() -> None:
    _change_statement("apply/insert_invoices", "    ON CONFLICT (invoice) DO NOTHING\n", "")


def _next_offsets_in_their_own_transaction() -> None:
    """Committed before the batch is."""
    real_advance = apply.advance

    def advance(cursor: Any, writer: Any, next_offsets: Mapping[int, int]) -> None:
        with closing(psycopg2.connect(settings().require_mart())) as other, other, other.cursor() as early:
            advance_next_offsets(early, writer, next_offsets)
        real_advance(cursor, writer, {})

    _replace(apply, "advance", advance)


def _quarantine_after_the_commit() -> None:
    waiting: list[tuple[Any, Any]] = []
    _replace(apply, "quarantine", lambda cursor, topic, rejected: waiting.append((topic, rejected)))
    real_apply = apply_job.apply_batch

    def apply_batch(connection: Any, *rest: Any, **named: Any) -> Any:
        applied = real_apply(connection, *rest, **named)
        with connection, connection.cursor() as cursor:
            for topic, rejected in waiting:
                real_quarantine(cursor, topic, rejected)
        waiting.clear()
        return applied

    _replace(apply_job, "apply_batch", apply_batch)


def _cuts_stay_where_they_are() -> None:
    _replace(score, "_move_cuts", lambda cursor: True)


def _next_offsets_after_the_lakes_commit() -> None:
    waiting: list[Mapping[int, int]] = []
    real_append, real_land = land.append, land_job.land_batch

    def append(table: Any, rows: Any, topic: Any, next_offsets: Mapping[int, int]) -> None:
        real_append(table, rows, topic, {})
        waiting.append(next_offsets)

    def land_batch(table: Any, topic: Any, *rest: Any) -> Any:
        landed = real_land(table, topic, *rest)
        while waiting:
            advance_lake(table, topic, waiting.pop())
        return landed

    _replace(land, "append", append)
    _replace(land_job, "land_batch", land_batch)


def _replace(module: Any, name: str, function: Callable[..., Any]) -> None:
    if not hasattr(module, name):
        raise LookupError(f"mutant does not fit any more: no {name} in {module.__name__}")
    setattr(module, name, function)


def _change_statement(name: str, old: str, new: str) -> None:
    real = sql.statement
    if old not in real(name):
        raise LookupError(f"mutant does not fit any more: no {old!r} in {name}")

    def statement(wanted: str) -> str:
        return real(wanted).replace(old, new) if wanted == name else real(wanted)

    _replace(apply, "statement", statement)


# name → (what is removed, how)
MUTANTS: dict[str, tuple[str, Callable[[], None]]] = {
    "writer fence": ("a writer does not look whether a newer one took over", _no_fence),
    "offset check": ("a batch is not held to the mart's next offsets", _no_offset_check),
    "ON CONFLICT": ("an invoice that is there already is inserted again", _no_on_conflict),
    "next offsets in the transaction": (
        "next offsets are committed before the batch",
        _next_offsets_in_their_own_transaction,
    ),
    "quarantine in the transaction": ("records are quarantined after the commit", _quarantine_after_the_commit),
    "cut adjustment": ("the cuts between the quintiles are not moved", _cuts_stay_where_they_are),
    "next offsets in the lake's commit": (
        "rows are landed before the next offsets",
        _next_offsets_after_the_lakes_commit,
    ),
}


def install(name: str) -> None:
    """Remove a guard from this process."""
    MUTANTS[name][1]()
