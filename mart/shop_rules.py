"""The shop's rules, as the mart has them."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.postgres import answering
from conf.settings import Settings
from mart.score import lock_scores, score_all
from sql import statement


def apply_shop_rules(connection: Connection, settings: Settings) -> None:
    """Write the shop's rules into the mart, in a transaction of its own. Raises what `answering` raises."""
    with answering(), connection, connection.cursor() as cursor:
        adopt_rules(cursor, settings)


def adopt_rules(cursor: Cursor, settings: Settings) -> None:
    """Write the shop's rules into the mart, in the caller's transaction, and rebuild monetary if the returns policy has
    changed. A job does this once it has taken over, when an older job's batch is either committed or fenced."""
    rules = {
        "returns_policy": settings.returns_policy,
        "recency_clock": settings.recency_clock,
        "time_zone": settings.shop_time_zone,
    }
    before = lock_scores(cursor)
    cursor.execute(statement("apply/apply_shop_rules"), rules)
    cursor.execute(statement("apply/advance_clock"))
    if before not in (None, settings.returns_policy):
        customers = statement("apply/recounted_customers").format(invoices="mart.invoice")
        cursor.execute(statement("apply/rebuild_customers").format(customers=customers), rules)
        score_all(cursor, "policy changed")
