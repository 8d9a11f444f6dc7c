"""A command's session of PostgreSQL: logs who makes it wait for a lock, and ends what it runs at a stop signal.

psycopg2 waits in C, where Python runs no signal handlers, and its wait callback does not support COPY. So another
thread learns of the signal through Python's wakeup descriptor and has PostgreSQL cancel the statement (or, if there is
no answer, shuts the connection: mart/watchdog.py). The signal's own handler then ends the command.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import structlog

from conf.postgres import answering
from conf.stop_signals import STOPS, cleared_away
from mart.connection import Session, connect_plainly
from mart.lock_watch import TICK_SECONDS, LongWait
from mart.watchdog import Watchdog, cancel

log = structlog.get_logger()
_END = 0  # no signal's number


@contextmanager
def session(dsn: str, application: str, connect: Callable[[str, str], Session] = connect_plainly) -> Iterator[Session]:
    """A connection for the block, closed at its end. Raises what `answering` raises, also for errors in the block."""
    with answering(), closing(connect(dsn, application)) as connection, _watched(connection, dsn):
        yield connection


@contextmanager
def _watched(connection: Session, dsn: str) -> Iterator[None]:
    with ExitStack() as stack:
        heard, told = (stack.enter_context(end) for end in socket.socketpair())
        heard.settimeout(TICK_SECONDS)
        told.setblocking(False)
        if threading.current_thread() is threading.main_thread():  # no other thread gets signals
            stack.enter_context(cleared_away())
            before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
        watch = threading.Thread(target=_watch, args=(connection, dsn, heard), name="session", daemon=True)
        watch.start()
        try:
            yield
        finally:
            told.send(bytes([_END]))
            watch.join(timeout=5)


def _watch(connection: Session, dsn: str, heard: socket.socket) -> None:
    wait, watchdog, stopping = LongWait(connection, dsn), Watchdog(connection), False
    while True:
        try:
            numbers = set(heard.recv(64))
        except TimeoutError:
            numbers = set()
        if _END in numbers:
            return
        if not stopping and numbers.intersection(STOPS):
            stopping = True
            log.info("stopping: what runs in PostgreSQL is cancelled")
        if stopping:
            watchdog.end(
                partial(cancel, connection, dsn)
            )  # at each tick: the statement may have been on its way there only
        else:
            watchdog.ask(wait.look)
