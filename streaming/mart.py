"""The connection to the mart, and what it says of the shop."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.settings import Settings
from sql import statement
from streaming.errors import AwayError, StreamingError
from streaming.score import lock_scores, score_all


def connect(dsn: str, application: str = "retail-mart streaming") -> Connection:
    """A connection for one writer, with its staging tables; mart.stream_status knows the job by its application name.

    Raises AwayError if PostgreSQL does not take it now, StreamingError if it refuses for good (wrong password, no such
    database, no schema)."""
    try:
        connection = psycopg2.connect(
            dsn,
            application_name=application,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("apply/create_stage"))
    except psycopg2.OperationalError as error:
        message = " ".join(str(error).split())
        if "authentication failed" in message or ("database" in message and "does not exist" in message):
            raise StreamingError(f"PostgreSQL refuses MART_DSN: {message}") from None
        raise AwayError(f"PostgreSQL does not answer: {message}") from error
    return connection


@contextmanager
def as_owner(verb: str) -> Iterator[None]:
    """Raises StreamingError, with what to do, where the mart lacks tables or its role may not `verb` what is in it."""
    try:
        yield
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        raise StreamingError("the mart has not the tables of this version: run `python -m streaming migrate`") from None
    except psycopg2.errors.InsufficientPrivilege as error:
        raise StreamingError(f"only the mart's owner may {verb}: set MART_OWNER_DSN ({str(error).strip()})") from None


def describe_shop(connection: Connection, settings: Settings) -> None:
    """Write the shop's rules into the mart, in a transaction of its own. Raises StreamingError if it has no tables."""
    with migrated(), connection, connection.cursor() as cursor:
        adopt_rules(cursor, settings)


def adopt_rules(cursor: Cursor, settings: Settings) -> None:
    """Write the shop's rules into the mart, and rebuild monetary if the returns policy is another than before, in the
    caller's transaction. A job does so once it has taken over: an older one's batch is written by then, or fenced."""
    rules = {
        "returns_policy": settings.returns_policy,
        "recency_clock": settings.recency_clock,
        "time_zone": settings.shop_time_zone,
    }
    before = lock_scores(cursor)
    cursor.execute(statement("apply/describe_shop"), rules)
    cursor.execute(statement("apply/advance_clock"))
    if before not in (None, settings.returns_policy):
        customers = statement("apply/recounted_customers").format(invoices="mart.invoice")
        cursor.execute(statement("apply/rebuild_customers").format(customers=customers), rules)
        score_all(cursor, "policy changed")


@contextmanager
def migrated() -> Iterator[None]:
    """Raises StreamingError, with what to do, where the mart has no tables."""
    try:
        yield
    except psycopg2.errors.UndefinedTable:
        raise StreamingError("the mart has no tables yet: run `python -m streaming migrate`") from None


def count_segments(connection: Connection) -> dict[str, int]:
    """Customers in each segment."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("apply/count_segments"))
        return dict(cursor.fetchall())


def application_name() -> str:
    """Who this job is, for the mart's writer table: host and process id."""
    return f"{socket.gethostname()} pid {os.getpid()}"
