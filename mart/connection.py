"""Connections to the mart: a writer's, a command's, and one that only reads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from conf.errors import StreamingError
from conf.postgres import answering, is_pooled, open_connection
from sql import statement

JOB = "retail-mart streaming"
"""The job's application name, by which mart.stream_status and the watch find its session."""


class Session(Connection):
    """A connection that knows whether there is a pooler in between: there, each transaction may get another session of
    PostgreSQL."""

    pooled = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """If a session is lost, so is its transaction: the rollback's failure does not replace the original error."""
        try:
            super().__exit__(kind, error, trace)
        except psycopg2.Error:
            if error is None:
                raise
            self.close()


class Writing(Session):
    """A writer's connection. Behind a pooler it leaves no staging tables in a session: each transaction (a `with`
    block) creates its own."""

    def __enter__(self) -> Self:
        entered = super().__enter__()
        if self.pooled:
            with self.cursor() as cursor:
                cursor.execute(statement("apply/create_stage").format(on_commit="DROP"))
        return entered


class Reading(Connection):
    """A connection that only reads. Its timeout is set again in each transaction (a `with` block), because behind a
    pooler the session is shared: a session setting would apply to the next client too."""

    patience_seconds = 5

    def __enter__(self) -> Self:
        entered = super().__enter__()
        with self.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{self.patience_seconds}s",))
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

    Raises UnavailableError if PostgreSQL does not accept it now, StreamingError if it refuses for good (wrong password,
    no such database).
    """
    return _connected(dsn, application, Session)


def connect_to_read(dsn: str, application: str, patience_seconds: int = 5) -> Reading:
    """A connection that only reads, with this timeout for each answer. Raises what `connect_plainly` raises."""
    connection = open_connection(dsn, application, Reading, patience_seconds, tcp_user_timeout=1000 * patience_seconds)
    connection.patience_seconds = patience_seconds
    connection.set_session(readonly=True)
    return connection


def _connected(dsn: str, application: str, kind: type[_Kind]) -> _Kind:
    connection = open_connection(dsn, application, kind)
    try:
        with answering(), connection.cursor() as cursor:
            connection.pooled = is_pooled(cursor)
        connection.rollback()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def as_owner(verb: str) -> Iterator[None]:
    """Raises StreamingError, with the fix, if the schema is out of date or its role may not `verb` what is in it."""
    with answering():
        try:
            yield
        except psycopg2.errors.InsufficientPrivilege as error:
            raise StreamingError(
                f"only the mart's owner may {verb}: set MART_OWNER_DSN ({str(error).strip()})"
            ) from None


def application_name() -> str:
    """Identifies this job in the mart's writer table: host and process id."""
    return f"{socket.gethostname()} pid {os.getpid()}"
