"""Migrate: apply `sql/migrations/NNNN_name.sql` in order, each once, each in its own transaction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extras import execute_values

from conf.errors import StreamingError
from conf.segments import segment_scores
from mart.reject_reason import MEANING
from mart.score import follow_definitions, lock_scores
from sql import FOLDER, one_row, statement

log = structlog.get_logger()
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True)
class Migration:
    """One migration file: its number, its name and its text."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(folder: Path = FOLDER / "migrations") -> list[Migration]:
    """The migrations in order. Raises StreamingError for a wrong name or a number that is missing or doubled."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise StreamingError(f"{path.name}: a migration is named like 0001_mart.sql")
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    numbers = [m.number for m in found]
    if numbers != list(range(1, len(found) + 1)):
        raise StreamingError(f"migrations are numbered {numbers}, expected 1 to {len(found)} without gaps")
    return found


def migrate(connection: Connection, listed: list[Migration] | None = None) -> list[str]:
    """Bring the database to the newest migration and fill the tables that mirror `conf/`; returns the names applied.

    Other segment definitions than before segment every customer anew.

    Safe to run again, and by two at once (an advisory lock). Raises StreamingError if a migration that was applied
    has been edited since, or the database is newer than this code.
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
                cursor.execute(migration.text)
                cursor.execute(
                    statement("migrate/record"),
                    {"number": migration.number, "name": migration.name, "checksum": migration.checksum},
                )
                applied_now.append(migration.name)
            elif row[1] != migration.checksum:
                raise StreamingError(
                    f"migration {migration.name} was edited after it was applied at {row[2]:%Y-%m-%d %H:%M}: restore "
                    "the file, and put the change into a new migration"
                )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("migrate/select_newest"))
        (newest,) = one_row(cursor)
        if newest > len(listed):
            raise StreamingError(
                f"the database is at migration {newest}, this code knows {len(listed)}: update the code"
            )
        execute_values(cursor, statement("migrate/fill_reject_reason"), list(MEANING.items()))
        lock_scores(cursor)
        execute_values(cursor, statement("migrate/fill_segment_score"), list(segment_scores()))
        cursor.execute(statement("apply/create_stage").format(on_commit="DROP"))
        moved = follow_definitions(cursor)
        if moved is not None:
            log.info("customers scored anew", moved=moved)
    return applied_now
