"""Locks: what a session of PostgreSQL waits for, since when, and who makes it wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from mart.connection import JOB
from sql import statement

PATIENCE_SECONDS = 10.0
"""A wait for a lock that is shorter is no news."""


class Blocker(NamedTuple):
    """A session that holds the lock or is ahead of us in its queue. PostgreSQL shows since when a session of another
    role is in a transaction, and the first words of its statement, only to pg_read_all_stats; otherwise both are
    None."""

    pid: int
    role: str | None
    application: str | None
    in_transaction_since: datetime | None
    statement: str | None

    def __str__(self) -> str:
        if self.role is None:
            return "a prepared transaction"
        application = f" ({self.application})" if self.application else ""
        since = f", in a transaction since {self.in_transaction_since:%H:%M:%S %Z}" if self.in_transaction_since else ""
        return f"pid {self.pid} of {self.role}{application}{since}{f': {self.statement}' if self.statement else ''}"


@dataclass(frozen=True)
class LockWait:
    """A session's wait for a lock: since when, how long, for which table (None: for a row, until the transaction that
    changed it ends), in which mode, and who makes it wait."""

    since: datetime
    seconds: float
    relation: str | None
    mode: str
    blockers: tuple[Blocker, ...]

    def __str__(self) -> str:
        what = self.relation or "a row that another transaction has changed"
        return f"{self.seconds:,.0f} s for a lock on {what}, held by {'; '.join(map(str, self.blockers))}"


def read_wait(cursor: Cursor, application: str = JOB, pid: int | None = None) -> LockWait | None:
    """What the session with that process id, or else with that application, is waiting for; None: not for a lock."""
    cursor.execute(statement("locks/blockers"), {"pid": pid, "application": application})
    rows = cursor.fetchall()
    if not rows:
        return None
    since, seconds, relation, mode = rows[0][:4]
    return LockWait(since, seconds, relation, mode, tuple(Blocker._make(row[4:]) for row in rows))
