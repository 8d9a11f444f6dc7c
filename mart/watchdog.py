"""A watchdog over a session's work. A server that has fallen silent (its host is gone, or it is stopped) does not
answer a request to cancel, and psycopg2 would wait for it indefinitely. In that case we shut our end of the
connection."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg2
import structlog

from conf.errors import StreamingError, UnavailableError
from conf.postgres import FAILURES
from mart.connection import Session, connect_to_read

SILENCE_SECONDS = 5.0
_TIMED_OUT = "timeout expired"  # libpq's own words
log = structlog.get_logger()


class Watchdog:
    """Asks PostgreSQL about a session, one question at a time, each in its own thread: the caller never waits for an
    answer."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self._asking: threading.Thread | None = None
        self._answered_at: float | None = None
        self._cut = False

    def ask(self, question: Callable[[], object]) -> None:
        """Ask, unless the previous question is still unanswered. A failure counts as no answer."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._put, args=(question,), name="question", daemon=True)
            self._asking.start()

    def end(self, cancel: Callable[[], object]) -> None:
        """Have PostgreSQL end what runs; called repeatedly. If it answers nothing for SILENCE_SECONDS, the waiting call
        fails, as if the server had closed the connection."""
        self._answered_at = self._answered_at or time.monotonic()
        self.ask(cancel)
        if not self._cut and time.monotonic() - self._answered_at >= SILENCE_SECONDS:
            self._cut = True
            log.warning("stopping: PostgreSQL does not answer, the connection is cut", seconds=SILENCE_SECONDS)
            _shut(self._connection)

    def _put(self, question: Callable[[], object]) -> None:
        try:
            question()
        except FAILURES as error:
            log.debug("locks unknown", reason=" ".join(str(error).split()))
        else:
            self._answered_at = time.monotonic()


def cancel(connection: Session, dsn: str) -> None:
    """Cancel what runs, where the server answers just now, if only by refusing another session: psycopg2 lets no
    thread run while it waits for the answer to a cancel, and knows no timeout there. Raises one of FAILURES."""
    try:
        connect_to_read(dsn, "retail-mart cancel").close()
    except (UnavailableError, StreamingError) as error:
        if _TIMED_OUT in str(error):
            raise
    connection.cancel()


def _shut(connection: Session) -> None:
    """Through a second descriptor of the same socket: only the library may close the connection's own."""
    with suppress(psycopg2.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
