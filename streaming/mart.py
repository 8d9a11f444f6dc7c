"""The connection to the mart, and what it says of the shop."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.postgres_refusal import Refusal, in_words, is_pooled, refusal
from conf.settings import Settings
from sql import statement
from streaming.errors import AwayError, StreamingError
from streaming.score import lock_scores, score_all

JOB = "retail-mart streaming"
"""The job's application name, by which mart.stream_status and the watch find its session."""


class Writing(Connection):
    """A writer's connection. Behind a pooler each transaction may get another session of PostgreSQL, so none is left
    with staging tables: there, each transaction of a `with` block makes its own."""

    pooled = False

    def __enter__(self) -> Self:
        entered = super().__enter__()
        if self.pooled:
            with self.cursor() as cursor:
                cursor.execute(statement("apply/create_stage").format(on_commit="DROP"))
        return entered


def connect(dsn: str, application: str = JOB) -> Writing:
    """A connection for one writer, with its staging tables; mart.stream_status knows the job by its application name.

    Raises AwayError if PostgreSQL does not take it now, StreamingError if it refuses for good (wrong password, no such
    database, no schema)."""
    with answering():
        connection = psycopg2.connect(
            dsn,
            connection_factory=Writing,
            application_name=application,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        try:
            with connection, connection.cursor() as cursor:
                pooled = is_pooled(cursor)
                if not pooled:
                    cursor.execute(statement("apply/create_stage").format(on_commit="DELETE ROWS"))
            connection.pooled = pooled
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def answering() -> Iterator[None]:
    """Raises AwayError where PostgreSQL fails in a way that passes by itself, StreamingError where an operator has
    something to do; any other failure goes through as it is."""
    try:
        yield
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        raise StreamingError(
            "the mart has not the tables of this version: run `python -m streaming migrate`, or `restore` a backup"
        ) from None
    except psycopg2.Error as error:
        known = refusal(error)
        if known is Refusal.PASSES:
            raise AwayError(in_words(error)) from error
        if known is Refusal.FOR_GOOD:
            raise StreamingError(in_words(error)) from None
        raise


@contextmanager
def as_owner(verb: str) -> Iterator[None]:
    """Raises StreamingError, with what to do, where the mart lacks tables or its role may not `verb` what is in it."""
    with answering():
        try:
            yield
        except psycopg2.errors.InsufficientPrivilege as error:
            raise StreamingError(
                f"only the mart's owner may {verb}: set MART_OWNER_DSN ({str(error).strip()})"
            ) from None


def describe_shop(connection: Connection, settings: Settings) -> None:
    """Write the shop's rules into the mart, in a transaction of its own. Raises what `answering` raises."""
    with answering(), connection, connection.cursor() as cursor:
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


def count_segments(connection: Connection) -> dict[str, int]:
    """Customers in each segment."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("apply/count_segments"))
        return dict(cursor.fetchall())


def application_name() -> str:
    """Who this job is, for the mart's writer table: host and process id."""
    return f"{socket.gethostname()} pid {os.getpid()}"
