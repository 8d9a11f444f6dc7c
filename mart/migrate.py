"""Migrate: apply `sql/migrations/NNNN_name.sql` in order, each once, each in its own transaction.

The first one creates the whole mart: those before it were squashed into it. A mart that has applied them continues.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from conf.errors import StreamingError
from conf.segments import segment_scores
from mart.reject_reason import MEANING
from mart.score import follow_definitions, lock_scores
from sql import FOLDER, one_row, statement

log = structlog.get_logger()
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
# The last migration of 0.1.0, as in the ledger: together with those before it, it created what 0011_mart creates.
_LAST_OF_0_1_0 = ("0011_clock", "2629cd6049ac7e9af0d7acb91d78becd34f9941463011fc644f56f4c74073d35")


@dataclass(frozen=True)
class Migration:
    """One migration file: its number, name and text."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(folder: Path = FOLDER / "migrations") -> list[Migration]:
    """The migrations in order. Raises StreamingError for a wrong name, or a missing or duplicate number."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise StreamingError(f"{path.name}: a migration is named like 0001_mart.sql")
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    numbers = [m.number for m in found]
    expected = range(numbers[0], numbers[0] + len(numbers))
    if numbers != list(expected):
        raise StreamingError(
            f"migrations are numbered {numbers}, expected {expected[0]} to {expected[-1]} without gaps"
        )
    return found


def migrate(connection: Connection, listed: list[Migration] | None = None) -> list[str]:
    """Bring the database to the newest migration and fill the tables that mirror `conf/`; returns the names applied.

    If the segment definitions have changed, every customer is segmented again.

    Safe to run again, and concurrently (it takes an advisory lock). Raises StreamingError if an applied migration has
    been edited since, if the database is newer than this code, or older than its first migration.
    """
    listed = migrations() if listed is None else listed
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("migrate/lock"))
        cursor.execute(statement("migrate/create_ledger"))
    applied_now = []
    for migration in listed:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("migrate/lock"))
            cursor.execute(statement("migrate/select_applied"), {"number": migration.number})
            row = cursor.fetchone()
            if row is None:
                if migration is listed[0]:
                    _check_is_empty(cursor, migration)
                cursor.execute(migration.text)
                cursor.execute(
                    statement("migrate/record"),
                    {"number": migration.number, "name": migration.name, "checksum": migration.checksum},
                )
                applied_now.append(migration.name)
            elif row[1] != migration.checksum and tuple(row[:2]) != _LAST_OF_0_1_0:
                raise StreamingError(
                    f"migration {migration.name} was edited after it was applied at {row[2]:%Y-%m-%d %H:%M}: restore "
                    "the file, and put the change into a new migration"
                )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("migrate/select_newest"))
        (newest,) = one_row(cursor)
        if newest > listed[-1].number:
            raise StreamingError(
                f"the database is at migration {newest}, this code knows {listed[-1].number}: update the code"
            )
        execute_values(cursor, statement("migrate/fill_reject_reason"), list(MEANING.items()))
        lock_scores(cursor)
        execute_values(cursor, statement("migrate/fill_segment_score"), list(segment_scores()))
        cursor.execute(statement("apply/create_stage").format(on_commit="DROP"))
        moved = follow_definitions(cursor)
        if moved is not None:
            log.info("customers rescored", moved=moved)
    return applied_now


def _check_is_empty(cursor: Cursor, first: Migration) -> None:
    cursor.execute(statement("migrate/select_newest"))
    (newest,) = one_row(cursor)
    if newest is not None:
        raise StreamingError(
            f"the database is at migration {newest} of a version before 0.1.0, this one begins with {first.number}: "
            "first run `retail-mart migrate` of version 0.1.0, then this one"
        )
