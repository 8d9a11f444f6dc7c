"""Runs of the nightly job, as the mart keeps them."""

from __future__ import annotations

from contextlib import closing

import psycopg2


def record_run(owner_dsn: str, status: str, hours_ago: float) -> None:
    """Write a run of the business date 2026-03-10 that ended so long ago."""
    with closing(psycopg2.connect(owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mart.rule_run (status, reason, business_date, window_days, min_support, min_confidence,"
            " engine, lake, lake_version, baskets, rules, seconds, code_version, started_at, created_at)"
            " VALUES (%s, %s, '2026-03-10', 90, 0.005, 0.05, 'eclat', '/lake', 1, 10, 10, '{}', 'test', now(),"
            " now() - %s * interval '1 hour')",
            (status, "no baskets" if status == "kept back" else None, hours_ago),
        )
