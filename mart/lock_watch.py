"""Watch over the job's own statements: log who makes one wait for a lock, and end the wait at a stop signal. (For a
command's statements see mart/session.py.)

A waiting statement reports nothing and cannot be interrupted from its own thread, so another thread watches it on its
own connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import structlog

from conf.errors import StreamingError, UnavailableError
from conf.postgres import answering
from conf.settings import Settings
from mart.connection import Session, Writing, connect_to_read
from mart.locks import PATIENCE_SECONDS, read_wait
from mart.watchdog import Watchdog, cancel
from sql import statement

log = structlog.get_logger()
_APPLICATION = "retail-mart locks"
TICK_SECONDS = 0.25
_LOOK_SECONDS = 2.0
_SAY_SECONDS = 30.0
_GRACE_SECONDS = 2.0


class LongWait:
    """A piece of a session's work, watched on a separate connection with the same role: a long wait for a lock is
    logged, and logged again from time to time."""

    def __init__(self, connection: Session, dsn: str) -> None:
        self._connection, self._dsn = connection, dsn
        self.began = self._looked_at = time.monotonic()
        self._said_at: float | None = None
        self._seconds = 0.0

    def look(self) -> float:
        """Log who makes it wait, if it has waited long; returns for how many seconds. Queries only from time to
        time."""
        now = time.monotonic()
        if now - self.began < PATIENCE_SECONDS or now - self._looked_at < _LOOK_SECONDS:
            return self._seconds
        self._looked_at, self._seconds = now, 0.0
        with closing(connect_to_read(self._dsn, _APPLICATION)) as other, other, other.cursor() as cursor:
            wait = read_wait(cursor, _application(self._connection), _pid(self._connection))
        if wait is None:
            return self._seconds
        self._seconds = wait.seconds
        if wait.seconds >= PATIENCE_SECONDS and (self._said_at is None or now - self._said_at >= _SAY_SECONDS):
            self._said_at = now
            log.warning(
                "waiting for a lock",
                seconds=round(wait.seconds),
                relation=wait.relation,
                mode=wait.mode,
                held_by=[str(blocker) for blocker in wait.blockers],
            )
        return self._seconds


class LockWatch:
    """Watches the blocks of `watching`: logs who makes a statement wait for long, and ends a wait for a lock at a stop
    signal. `waits` is called with the seconds waited; 0: no longer waiting."""

    def __init__(
        self, settings: Settings, stopping: threading.Event, waits: Callable[[float], object] = lambda _: None
    ) -> None:
        self._settings, self._stopping, self._waits = settings, stopping, waits
        self._closed = threading.Event()
        self._busy: _Busy | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, connection: Writing) -> Iterator[None]:
        """Watch this connection until the block's end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="locks", daemon=True)
            self._thread.start()
        self._busy = _Busy(connection, self._settings.require_mart())
        try:
            yield
        finally:
            self._busy = None
            self._waits(0)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            busy = self._busy
            if busy is None:
                continue
            if self._stopping.is_set():
                busy.watchdog.end(partial(self._end_wait, busy))
            else:
                busy.watchdog.ask(partial(self._look, busy))

    def _look(self, busy: _Busy) -> None:
        seconds = busy.wait.look()
        if self._busy is busy:
            self._waits(seconds)

    def _end_wait(self, busy: _Busy) -> None:
        """Cancels only a statement that waits: one that runs continues to its commit. If PostgreSQL accepts no second
        connection, cancels whatever runs after a moment; the transaction is then rolled back."""
        connection = busy.connection
        try:
            with (
                answering(),
                closing(connect_to_read(self._settings.require_mart(), _APPLICATION)) as other,
                other,
                other.cursor() as cursor,
            ):
                session = {"pid": _pid(connection), "application": _application(connection)}
                cursor.execute(statement("locks/cancel_waiting"), session)
                if cursor.fetchall():
                    log.info("stopping: a statement that waits for a lock is cancelled")
        except (UnavailableError, StreamingError):
            if time.monotonic() - busy.wait.began < _GRACE_SECONDS or self._busy is not busy:
                raise
            cancel(connection, self._settings.require_mart())


class _Busy:
    """A connection at work, and what watches it."""

    def __init__(self, connection: Writing, dsn: str) -> None:
        self.connection = connection
        self.wait = LongWait(connection, dsn)
        self.watchdog = Watchdog(connection)


def _application(connection: Session) -> str:
    return connection.info.dsn_parameters["application_name"]


def _pid(connection: Session) -> int | None:
    """The process id of its session; None behind a pooler, where it is another one for each transaction."""
    return None if connection.pooled else connection.info.backend_pid
