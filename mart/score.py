"""Score: exact quintiles r, f, m of every customer, their segments, who moved, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import one_row, statement

log = structlog.get_logger()
Cause = Literal["definition changed", "policy changed", "repaired"]

# A batch that changes a larger share of the customers than this is scored by a full ntile: measured by
# `python -m bench.quintiles`. Both ways are exact.
FULL_SHARE = 0.3


@dataclass(frozen=True)
class Check:
    """What a self-check found: customers that ought to be scored, and how many of their scores or segments, of the 12
    cuts and of the totals are wrong."""

    customers: int
    wrong_scores: int
    wrong_cuts: int
    wrong_totals: int

    @property
    def is_right(self) -> bool:
        return not (self.wrong_scores or self.wrong_cuts or self.wrong_totals)


def lock_scores(cursor: Cursor) -> str | None:
    """Be the only one who changes customers until the transaction's end: scores depend on all of them. Returns the
    returns policy that their figures were made with; None in a mart that no job has described yet."""
    cursor.execute(statement("apply/lock_shop"))
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def score(cursor: Cursor, full_share: float = FULL_SHARE) -> int:
    """Bring every customer's scores and segment up to date after a batch, in the caller's transaction, under
    `lock_scores`; returns how many customers moved between segments.

    The temporary table due_customer holds each customer that the batch wrote or deleted, with what stood before. Writes
    a segment_change for each who moved; fresh_invoice tells their own purchases from being overtaken.
    """
    cursor.execute(statement("score/count_due"))
    customers, due = one_row(cursor)
    if not due:
        return 0
    if customers is None or due > customers * full_share or not _move_cuts(cursor):
        return score_all(cursor)
    return _write_scores(cursor, "score/by_cuts")


def score_all(cursor: Cursor, cause: Cause | None = None) -> int:
    """Score every customer anew by a full ntile, in the caller's transaction, under `lock_scores`; returns how many
    customers moved. `cause` says why in their segment_change where it is not the batch in fresh_invoice."""
    cursor.execute(statement("score/clear"))
    return _write_scores(cursor, "score/by_ntile", cause)


def follow_definitions(cursor: Cursor) -> int | None:
    """After mart.segment_score was filled: score everyone anew if the customers' segments are by other definitions, or
    if there are no cuts yet, in the caller's transaction, under `lock_scores`. Returns how many moved, None if nothing
    was to be done; their segment_change says "definition changed"."""
    cursor.execute(statement("score/is_outdated"))
    (outdated,) = one_row(cursor)
    return score_all(cursor, "definition changed") if outdated else None


def record_check(cursor: Cursor) -> Check:
    """Compare scores, cuts and totals with a full ntile and record what was found, in the caller's transaction."""
    cursor.execute(statement("score/check"))
    check = Check(*one_row(cursor))
    cursor.execute(statement("score/record_check"), vars(check))
    return check


def check_scores(connection: Connection) -> Check:
    """Compare scores, cuts and totals with a full ntile and record what was found, in a transaction of its own. Nothing
    of them is changed and nobody waits: it is one statement, so all is of one moment. Reads every customer (2-4 s a
    million)."""
    with connection, connection.cursor() as cursor:
        check = record_check(cursor)
    if check.is_right:
        log.info("scores checked", customers=check.customers)
    else:
        log.error("scores are wrong: run `retail-mart verify --repair`", **vars(check))
    return check


def thin_history(connection: Connection, minutes_kept_days: int, hours_kept_days: int) -> int:
    """Thin the segments' trend: minutes to hours after so many days, hours to days after so many; returns the rows
    removed. A kept row is the last of its hour or day, unchanged."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            statement("score/thin_history"),
            {"minutes_kept_days": minutes_kept_days, "hours_kept_days": hours_kept_days},
        )
        return cursor.rowcount


def _move_cuts(cursor: Cursor) -> bool:
    cursor.execute(statement("score/move_cuts"))
    (moved,) = one_row(cursor)
    if not moved:
        log.error("the cuts do not match the customers: everyone is rescored")
    return bool(moved)


def _write_scores(cursor: Cursor, way: str, cause: Cause | None = None) -> int:
    cursor.execute(statement(way), {"cause": cause})
    (moved,) = one_row(cursor)
    cursor.execute(statement("score/record_history"))
    return int(moved)
