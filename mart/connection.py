"""The connection to the mart, and PostgreSQL's failures as ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from conf.errors import StreamingError, UnavailableError
from conf.postgres_refusal import Refusal, in_words, is_pooled, refusal
from sql import statement

JOB = "retail-mart streaming"
"""The job's application name, by which mart.stream_status and the watch find its session."""


class Session(Connection):
    """A connection that knows whether a pooler stands between: there, each transaction may get another session of
    PostgreSQL."""

    pooled = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Where a session is lost, so is its transaction: the rollback's failure does not take the place of why."""
        try:
            super().__exit__(kind, error, trace)
        except psycopg2.Error:
            if error is None:
                raise
            self.close()


class Writing(Session):
    """A writer's connection. Behind a pooler no session is left with staging tables: each transaction of a `with` block
    makes its own."""

    def __enter__(self) -> Self:
        entered = super().__enter__()
        if self.pooled:
            with self.cursor() as cursor:
                cursor.execute(statement("apply/create_stage").format(on_commit="DROP"))
        return entered


_Kind = TypeVar("_Kind", bound=Session)


def connect(dsn: str, application: str = JOB) -> Writing:
    """A connection for one writer, with its staging tables; mart.stream_status knows the job by its application name.

    Raises what `connect_plainly` raises."""
    connection = _connected(dsn, application, Writing)
    try:
        if not connection.pooled:
            with answering(), connection, connection.cursor() as cursor:
                cursor.execute(statement("apply/create_stage").format(on_commit="DELETE ROWS"))
    except BaseException:
        connection.close()
        raise
    return connection


def connect_plainly(dsn: str, application: str) -> Session:
    """A connection without staging tables.

    Raises UnavailableError if PostgreSQL does not take it now, StreamingError if it refuses for good (wrong password,
    no such database, no schema)."""
    return _connected(dsn, application, Session)


def _connected(dsn: str, application: str, kind: type[_Kind]) -> _Kind:
    with answering():
        connection = psycopg2.connect(
            dsn,
            connection_factory=kind,
            application_name=application,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        try:
            with connection.cursor() as cursor:
                connection.pooled = is_pooled(cursor)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def answering() -> Iterator[None]:
    """Raises UnavailableError where PostgreSQL fails in a way that passes by itself, StreamingError where an operator
    has something to do; any other failure goes through as it is."""
    try:
        yield
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        raise StreamingError(
            "the mart has not the tables of this version: run `retail-mart migrate`, or `restore` a backup"
        ) from None
    except psycopg2.Error as error:
        known = refusal(error)
        if known is Refusal.PASSES:
            raise UnavailableError(in_words(error)) from error
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


def application_name() -> str:
    """Who this job is, for the mart's writer table: host and process id."""
    return f"{socket.gethostname()} pid {os.getpid()}"
