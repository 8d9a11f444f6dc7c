"""PostgreSQL: the only place where connections are made and where psycopg2's failures become our errors.

It is here, below mart/, because the dashboards connect too and share no code with mart/; mart/connection.py has what
else a writer's session needs.

By its SQLSTATE (appendix A of PostgreSQL's manual), a failure is transient, needs an operator, or is the statement's
fault. A failed login has no SQLSTATE in psycopg2, so its English message decides. Another `lc_messages` of the server
is not understood, because it takes a client's options only after the login.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

import psycopg2
from psycopg2 import errorcodes, errors
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.errors import StreamingError, UnavailableError
from conf.masking import masked
from sql import one_row


class Refusal(Enum):
    """PASSES: not now, worth a retry. FOR_GOOD: somebody must change something. FAULT: of the statement or of the rows;
    neither a retry nor another setting helps."""

    PASSES = "passes"
    FOR_GOOD = "for good"
    FAULT = "fault"


_PASSING_CLASSES = {
    errorcodes.CLASS_CONNECTION_EXCEPTION,  # also what a pooler says when it has no server available
    errorcodes.CLASS_TRANSACTION_ROLLBACK,  # deadlock, serialization, a standby's conflict with recovery
    errorcodes.CLASS_INSUFFICIENT_RESOURCES,  # disk full, out of memory, too many connections
    errorcodes.CLASS_OPERATOR_INTERVENTION,  # shutdown, start, recovery, a session that was ended, statement_timeout
    errorcodes.CLASS_SYSTEM_ERROR,  # an I/O error
}
_PASSING = {
    errorcodes.READ_ONLY_SQL_TRANSACTION,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    "25P04",  # transaction_timeout; psycopg2 does not know its name yet
    errorcodes.LOCK_NOT_AVAILABLE,
    errorcodes.OBJECT_IN_USE,
}
_FOR_GOOD_CLASSES = {
    errorcodes.CLASS_INVALID_AUTHORIZATION_SPECIFICATION,
    errorcodes.CLASS_INVALID_CATALOG_NAME,  # the database
}
_FOR_GOOD = {errorcodes.DATABASE_DROPPED, errorcodes.INSUFFICIENT_PRIVILEGE}
# What PostgreSQL, libpq and PgBouncer say about a login that no retry changes.
_REFUSED_LOGIN = re.compile(
    r"authentication failed|(?:database|role) .*does not exist|no such (?:database|user)|no pg_hba\.conf entry"
    r"|is not permitted to log in|permission denied for database|unsupported (?:frontend protocol|startup parameter)"
    r"|certificate verify failed|does not match host name|does not support SSL, but SSL was required"
    r"|no password supplied"
    r"|root certificate file .* does not exist"
    r"|definition of service .* not found|service file .* not found|in service file"
)


_OUT_OF_DATE = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
FAILURES = (psycopg2.Error, UnavailableError, StreamingError)
"""All that asking PostgreSQL can fail with, for who only looks and must not fail itself."""

_Kind = TypeVar("_Kind", bound=Connection)


def open_connection(
    dsn: str, application: str, kind: type[_Kind], connect_seconds: int = 10, **parameters: Any
) -> _Kind:
    """A connection of that kind, which notices when its server has vanished; `parameters` are libpq's. The DSN sets
    UTF-8 (conf.dsn.in_utf8), for pg_dump too. Raises what `answering` raises."""
    with answering():
        return psycopg2.connect(
            dsn,
            connection_factory=kind,
            application_name=application,
            connect_timeout=connect_seconds,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            **parameters,
        )


@contextmanager
def answering() -> Iterator[None]:
    """Raises UnavailableError if PostgreSQL's failure is transient, StreamingError if an operator must act; any other
    failure passes through unchanged."""
    try:
        yield
    except _OUT_OF_DATE as error:
        raise StreamingError(
            "the mart's schema is out of date: run `retail-mart migrate`, or `restore` a backup "
            f"({error.diag.message_primary})"
        ) from None
    except psycopg2.Error as error:
        known = refusal(error)
        if known is Refusal.PASSES:
            raise UnavailableError(in_words(error)) from error
        if known is Refusal.FOR_GOOD:
            raise StreamingError(in_words(error)) from None
        raise


def refusal(error: psycopg2.Error) -> Refusal:
    """What kind of failure it is."""
    error = _first(error)
    code = error.pgcode
    if code is None:
        # A connection that broke in the middle of an answer is a bare DatabaseError.
        broke = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        if not broke and type(error) is not psycopg2.DatabaseError:
            return Refusal.FAULT
        return Refusal.FOR_GOOD if _REFUSED_LOGIN.search(str(error)) else Refusal.PASSES
    if code in _FOR_GOOD or code[:2] in _FOR_GOOD_CLASSES:
        return Refusal.FOR_GOOD
    return Refusal.PASSES if code in _PASSING or code[:2] in _PASSING_CLASSES else Refusal.FAULT


def in_words(error: psycopg2.Error) -> str:
    """What PostgreSQL said, in one line, preceded by what it means."""
    error = _first(error)
    message = masked(" ".join(str(error).split()))
    if error.pgcode == errorcodes.READ_ONLY_SQL_TRANSACTION:
        return f"PostgreSQL is read-only, as a standby, or a service with a full disk, is: {message}"
    if refusal(error) is Refusal.PASSES:
        return f"PostgreSQL is unavailable: {message}" if error.pgcode is None else f"PostgreSQL failed: {message}"
    fix = ". Check MART_DSN, MART_OWNER_DSN and MART_READER_DSN" if error.pgcode is None else ""
    return f"PostgreSQL refuses: {message}{fix}"


def _first(error: psycopg2.Error) -> psycopg2.Error:
    """Of a session that PostgreSQL has ended, why it has: the end of a `with` block rolls back what is closed by then,
    and fails with no more than that."""
    while isinstance(error, psycopg2.InterfaceError) and isinstance(error.__context__, psycopg2.Error):
        error = error.__context__
    return error


def is_pooled(cursor: Cursor) -> bool:
    """Whether there is a pooler in between: a pooler makes up the process id that it tells a client at the login."""
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = one_row(cursor)
    return bool(pid != cursor.connection.info.backend_pid)
