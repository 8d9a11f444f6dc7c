"""Refused: which records of a batch PostgreSQL itself does not take, found by trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
import pyarrow as pa
from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import statement

# What PostgreSQL says of a value. The last one is an OperationalError, and yet no outage: a key too large for an index.
REFUSALS = (psycopg2.DataError, psycopg2.IntegrityError, errors.ProgramLimitExceeded)
_DETAIL_CHARACTERS = 500

Trial = Callable[[pa.Table], None]


@dataclass(frozen=True)
class Refusal:
    """A row's number in the table that was tried, and what PostgreSQL says of it."""

    row: int
    detail: str


def find_refused(cursor: Cursor, rows: pa.Table, trial: Trial) -> list[Refusal]:
    """The rows that `trial` cannot write on top of the rows before them, by halving what is refused. Leaves nothing
    behind. Any other error of the trial is raised: it is not a record's."""
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
    """What PostgreSQL says of a value, without the row that it shows: for logs."""
    return " ".join((refusal.diag.message_primary or str(refusal)).split())


def _in_detail(refusal: psycopg2.Error) -> str:
    """With the row, the line or the column that it shows: for the quarantine."""
    said = (primary_message(refusal), refusal.diag.message_detail, refusal.diag.context)
    text = "; ".join(" ".join(part.split()) for part in said if part)
    return f"PostgreSQL: {text}"[:_DETAIL_CHARACTERS]


@contextmanager
def _savepoint(cursor: Cursor) -> Iterator[None]:
    """Keep what is done if it succeeds, undo it if it raises."""
    cursor.execute(statement("refused/begin_trial"))
    try:
        yield
    except REFUSALS:
        cursor.execute(statement("refused/undo_trial"))
        raise
    cursor.execute(statement("refused/keep_trial"))


@contextmanager
def _undone(cursor: Cursor) -> Iterator[None]:
    """Undo what is done, unless it raises: then the transaction is over anyway."""
    cursor.execute(statement("refused/begin_trial"))
    yield
    cursor.execute(statement("refused/undo_trial"))
