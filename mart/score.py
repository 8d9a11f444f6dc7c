"""Score: exact quintiles r, f, m of every customer, their segments, who moved, and the history kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import one_row, statement

log = structlog.get_logger()
Cause = Literal["definition changed", "policy changed", "repaired"]

# A batch that changes a larger share of the customers than this is scored with a full ntile: measured by
# `python -m bench.quintiles`. Both ways are exact.
FULL_SHARE = 0.3


@dataclass(frozen=True)
class Check:
    """What a self-check found: how many customers should be scored, and how many of their scores or segments, of the 12
    cuts and of the totals are wrong."""

    customers: int
    wrong_scores: int
    wrong_cuts: int
    wrong_totals: int

    @property
    def is_right(self) -> bool:
        return not (self.wrong_scores or self.wrong_cuts or self.wrong_totals)


def lock_scores(cursor: Cursor) -> str | None:
    """Keep everyone else from changing customers until the end of the transaction, because scores depend on all of
    them. Returns the returns policy that the customers' figures were computed with; None in a mart that no job has
    described yet."""
    cursor.execute(statement("apply/lock_shop"))
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def score(cursor: Cursor, full_share: float = FULL_SHARE) -> int:
    """Bring every customer's scores and segment up to date after a batch, in the caller's transaction, under
    `lock_scores`; returns how many customers moved between segments.

    The temporary table due_customer holds each customer that the batch wrote or deleted, with their previous values.
    Writes a segment_change for each customer who moved; fresh_invoice tells their own purchases from being overtaken.
    """
    cursor.execute(statement("score/count_due"))
    customers, due = one_row(cursor)
    if not due:
        return 0
    if customers is None or due > customers * full_share or not _move_cuts(cursor):
        return score_all(cursor)
    return _write_scores(cursor, "score/by_cuts")


def score_all(cursor: Cursor, cause: Cause | None = None) -> int:
    """Rescore every customer with a full ntile, in the caller's transaction, under `lock_scores`; returns how many
    customers moved. `cause` is recorded in their segment_change if the reason is not the batch in fresh_invoice."""
    cursor.execute(statement("score/clear"))
    return _write_scores(cursor, "score/by_ntile", cause)


def follow_definitions(cursor: Cursor) -> int | None:
    """After mart.segment_score was filled: rescore everyone, in the caller's transaction and under `lock_scores`, if
    the customers' segments follow other definitions or there are no cuts yet. Returns how many moved, None if there was
    nothing to do; their segment_change says "definition changed"."""
    cursor.execute(statement("score/is_outdated"))
    (outdated,) = one_row(cursor)
    return score_all(cursor, "definition changed") if outdated else None


def record_check(cursor: Cursor) -> Check:
    """Compare scores, cuts and totals with a full ntile and record the result, in the caller's transaction."""
    cursor.execute(statement("score/check"))
    check = Check(*one_row(cursor))
    cursor.execute(statement("score/record_check"), vars(check))
    return check


def check_scores(connection: Connection) -> Check:
    """Compare scores, cuts and totals with a full ntile and record the result, in a transaction of its own. It changes
    none of them and blocks nobody: it is one statement, and so sees one moment. Reads every customer (2-4 s per
    million)."""
    with connection, connection.cursor() as cursor:
        check = record_check(cursor)
    if check.is_right:
        log.info("scores checked", customers=check.customers)
    else:
        log.error("scores are wrong: run `retail-mart verify --repair`", **vars(check))
    return check


def thin_history(connection: Connection, minutes_kept_days: int, hours_kept_days: int) -> int:
    """Thin out the segments' history: minutes to hours after so many days, hours to days after so many; returns the
    number of rows removed. A kept row is the last of its hour or day, unchanged."""
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
