"""A way to PostgreSQL that can fall silent, as a stopped server or a host that is gone does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from psycopg2.extensions import make_dsn, parse_dsn


class Way:
    """A port of this machine before a server; `silent` holds back every byte from now on."""

    def __init__(self, dsn: str) -> None:
        parts = parse_dsn(dsn)
        self._server = (parts["host"], int(parts["port"]))
        self._open = ExitStack()
        self._port = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.silent = threading.Event()
        self.dsn = make_dsn(dsn, host="127.0.0.1", port=self._port.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._port.accept()
                self._open.enter_context(client)
                if not self.silent.is_set():
                    server = self._open.enter_context(socket.create_connection(self._server))
                    for ends in ((client, server), (server, client)):
                        threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(65536):
                if self.silent.is_set():
                    return
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)


@contextmanager
def way(dsn: str) -> Iterator[Way]:
    made = Way(dsn)
    try:
        yield made
    finally:
        made.close()
