"""A wire to PostgreSQL that a test can cut, mend and silence, or that loses a commit or its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg2.extensions import make_dsn, parse_dsn

_COMMIT = b"COMMIT\0"  # a simple query's end, as psycopg2 sends it


class Wire:
    """A port of this machine that leads to a server, by `dsn`.

    `silent`, once set, holds back every byte, as a stopped server or a host that is gone does. `loses`, put there,
    becomes of one commit that comes right after a statement with `after` in it: "commit" breaks the connection before
    the server hears of it, "answer" after it has done it.
    """

    def __init__(self, dsn: str) -> None:
        parts = parse_dsn(dsn)
        self._server = (parts["host"], int(parts["port"]))
        self.silent = threading.Event()
        self.loses: list[str] = []
        self.after = b""
        self._not_answering: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.dsn = make_dsn(dsn, host="127.0.0.1", port=self.port)
        self._serve()

    def cut(self) -> None:
        """Refuse new connections and break those there are."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            _hang_up(end)
        self._open.clear()

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # cut
            while True:
                client, _ = listening.accept()
                self._open.append(client)
                if not self.silent.is_set():
                    server = socket.create_connection(self._server)
                    self._open.append(server)
                    for ends in ((client, server, True), (server, client, False)):
                        threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, here: socket.socket, there: socket.socket, are_requests: bool) -> None:
        before = b""
        with suppress(OSError):
            while data := here.recv(65536):
                if self.silent.is_set():
                    return
                is_meant = are_requests and data.endswith(_COMMIT) and self.after in before
                lost = self.loses.pop() if is_meant and self.loses else None
                before = data
                if lost == "commit" or here is self._not_answering:
                    break
                if lost == "answer":
                    self._not_answering = there
                there.sendall(data)
        _hang_up(here)
        _hang_up(there)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wired(dsn: str) -> Iterator[Wire]:
    """A wire that is cut at the block's end."""
    wire = Wire(dsn)
    try:
        yield wire
    finally:
        wire.cut()
