"""Refused: find the records of a batch that only PostgreSQL refuses, by bisection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
import pyarrow as pa
from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import statement

# What PostgreSQL says about a value. The last one, a key too large for an index, is an OperationalError but no outage.
REFUSALS = (psycopg2.DataError, psycopg2.IntegrityError, errors.ProgramLimitExceeded)
_DETAIL_CHARACTERS = 500

Trial = Callable[[pa.Table], None]


@dataclass(frozen=True)
class Refusal:
    """The number of a row in the table that was tried, and what PostgreSQL says about it."""

    row: int
    detail: str


def find_refused(cursor: Cursor, rows: pa.Table, trial: Trial) -> list[Refusal]:
    """The rows that `trial` cannot write on top of the rows before them, found by bisecting whatever is refused. Leaves
    nothing behind. Any other error of the trial is raised, because it is not about a record."""
    found: list[Refusal] = []

    def search(first: int, count: int) -> None:
        try:
            with _savepoint(cursor):
                trial(rows.slice(first, count))
        except REFUSALS as refusal:
            if count == 1:
                found.append(Refusal(first, _in_detail(refusal)))
                return
            search(first, count // 2)
            search(first + count // 2, count - count // 2)

    with _undone(cursor):
        if rows.num_rows:
            search(0, rows.num_rows)
    return found


def takes(cursor: Cursor, rows: pa.Table, trial: Trial) -> bool:
    """Whether `trial` can write all of the rows. Leaves nothing behind."""
    return not find_refused(cursor, rows, trial)


def primary_message(refusal: psycopg2.Error) -> str:
    """What PostgreSQL says about a value, without the row that it quotes: for logs."""
    return " ".join((refusal.diag.message_primary or str(refusal)).split())


def _in_detail(refusal: psycopg2.Error) -> str:
    """With the row, line or column that it quotes: for the quarantine."""
    said = (primary_message(refusal), refusal.diag.message_detail, refusal.diag.context)
    text = "; ".join(" ".join(part.split()) for part in said if part)
    return f"PostgreSQL: {text}"[:_DETAIL_CHARACTERS]


@contextmanager
def _savepoint(cursor: Cursor) -> Iterator[None]:
    """Keep the changes if the block succeeds, roll them back if it raises."""
    cursor.execute(statement("refused/begin_trial"))
    try:
        yield
    except REFUSALS:
        cursor.execute(statement("refused/undo_trial"))
        raise
    cursor.execute(statement("refused/keep_trial"))


@contextmanager
def _undone(cursor: Cursor) -> Iterator[None]:
    """Roll back the changes, unless the block raises: then the transaction is over anyway."""
    cursor.execute(statement("refused/begin_trial"))
    yield
    cursor.execute(statement("refused/undo_trial"))
