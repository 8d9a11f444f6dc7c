"""Reader: questions to the mart as analytics_reader, over one connection that comes back by itself."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from conf.errors import OperatorError, UnavailableError
from conf.masking import MaskedError
from conf.postgres import answering, in_words, is_pooled, open_connection
from conf.settings import read_settings
from sql import statement

# A page that waits is worse than one that says it could not ask; and it must never hold up the stream. For the
# transaction alone: behind a pooler the session is nobody's own, and the next client would have the settings, too.
_SETTINGS = "SET LOCAL statement_timeout = '10s'; SET LOCAL timezone = 'UTC'"

Value = str | int | float | bool | list[Any] | None


class RefusedError(MaskedError):
    """PostgreSQL answered that the question cannot be asked (no such view, no right, too slow)."""


def reader_dsn() -> str:
    """The reader's DSN as the settings say now: a stack that was started anew has other ports and passwords.

    Raises SettingsError where there is none.
    """
    return read_settings().require_mart("reader")


class Reader:
    """One connection, one question at a time; safe to use from several threads."""

    def __init__(self, dsn: Callable[[], str] = reader_dsn, listen: bool = False) -> None:
        self._dsn, self._listen = dsn, listen
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def rows(self, question: str, parameters: Mapping[str, Any] | None = None) -> list[list[Value]]:
        """All rows of a SELECT, in values that JSON has. Raises UnavailableError, RefusedError."""
        with self._lock:
            connection = self._connected()
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_SETTINGS)
                    cursor.execute(question, parameters)
                    found = [[_plain(value) for value in row] for row in cursor.fetchall()]
                connection.commit()
                return found
            except psycopg2.Error as error:
                if not connection.closed:
                    connection.rollback()
                    raise RefusedError(error.diag.message_primary or in_words(error)) from None
                self._connection = None
                raise UnavailableError(in_words(error)) from None

    def records(self, question: str, parameters: Mapping[str, Any], columns: list[str]) -> list[dict[str, Value]]:
        """The rows as one mapping each, by the given names."""
        return [dict(zip(columns, row, strict=True)) for row in self.rows(question, parameters)]

    def batch_came(self, seconds: float) -> bool:
        """Wait until the stream commits a batch, at most so long; whether one came. Behind a pooler, where nobody can
        listen, the wait is always as long as that. Raises UnavailableError."""
        with self._lock:
            connection = self._connected()
            try:
                if not connection.notifies and select.select([connection], [], [], seconds)[0]:
                    connection.poll()
            except psycopg2.Error as error:
                self._connection = None
                raise UnavailableError(in_words(error)) from None
            came = bool(connection.notifies)
            connection.notifies.clear()
            return came

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        try:
            with answering():
                connection = open_connection(self._dsn(), "retail-mart dashboards", Connection, connect_seconds=5)
                connection.set_session(readonly=True)
                with connection, connection.cursor() as cursor:
                    if self._listen and not is_pooled(cursor):
                        cursor.execute(statement("dashboards/listen"))
        except OperatorError as error:  # another password or another port may come: it is asked for anew
            raise UnavailableError(str(error)) from None
        self._connection = connection
        return connection


def _plain(value: Any) -> Value:
    """Times in ISO format (with +00:00 if they are moments, without a zone if they are the shop's local time)."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    plain: Value = value
    return plain
