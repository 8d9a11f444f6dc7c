"""Connection: uvicorn's, with time limits. On its own it waits forever for the rest of a request, and for a slow
reader."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 8.0
READ_SECONDS = 15.0
BACKLOG = 64  # so many are accepted at once, before one of them is looked at
_MOST = 2_000
_OTHER_FILES = 50  # libraries, PostgreSQL's connections, static files that are sent just now
_MOST_FILES = 65_536
_QUIET_SECONDS = 60
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_NO_MORE_HANDLES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = logging.getLogger("uvicorn.error")


class Connection(H11Protocol):
    """A connection that ends if a request is incomplete after REQUEST_SECONDS, however many bytes have arrived, and if
    what was written is not read within READ_SECONDS. If there are too many connections, the oldest of those without a
    complete request is closed, so that they keep nobody out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._unheard: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # `pause_writing` then tells of every byte that waits
        _notice_vanished(transport.get_extra_info("socket"))
        self._await_request()
        if len(self.connections) > most_connections():
            min((c for c in self.connections if isinstance(c, Connection)), key=_due).give_way()

    @property
    def due(self) -> float:
        """When its request must be whole (the loop's time); infinite if it is."""
        return self._unheard.when() if self._unheard is not None else float("inf")

    def give_way(self) -> None:
        """End it. It is no candidate for that any more, although its file is free only a moment later."""
        self._hear()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._await_request()
        else:
            self._hear()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hear()
        self._read()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._unheard = self._unheard or self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _hear(self) -> None:
        if self._unheard is not None:
            self._unheard.cancel()
            self._unheard = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _due(connection: Connection) -> float:
    """Those with a whole request have none: if all have one, it is the newcomer that goes."""
    return connection.due


def _notice_vanished(connected: socket.socket) -> None:
    """A client whose machine is gone says no goodbye, and a quiet mart sends it nothing that could fail."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # Linux
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def most_connections() -> int:
    """So many that file handles are left for those that are accepted at once, and for all else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(_MOST, files - BACKLOG - _OTHER_FILES))


def raise_file_limit() -> None:
    """Take as many file handles as this process may have without asking."""
    now, may = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if may == resource.RLIM_INFINITY else min(may, _MOST_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, may))


class QuietLoopErrors:
    """The event loop's exception handler: one log line per minute when file handles run out.

    By default asyncio logs a traceback for each waiting connection, and again every second.
    """

    def __init__(self) -> None:
        self._told_at = float("-inf")
        self._untold = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _NO_MORE_HANDLES:
            loop.default_exception_handler(context)
            return
        self._untold += 1
        if time.monotonic() - self._told_at >= _QUIET_SECONDS:
            log.error(
                "no file handle for another connection (%s; %d times since this was told last): connections wait; "
                "a higher `ulimit -n` helps",
                error.strerror,
                self._untold,
            )
            self._told_at, self._untold = time.monotonic(), 0
