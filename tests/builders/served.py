"""The page in a process of its own, and a wire to PostgreSQL that a test can cut."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Page:
    """A running `retail-mart page`."""

    def __init__(self, reader_dsn: str | None, *options: str, **environment: str) -> None:
        known = {k: v for k, v in os.environ.items() if not k.startswith(("MART_", "KAFKA_"))}
        dsn = {"MART_READER_DSN": reader_dsn} if reader_dsn else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "page", *options],
            env={**known, "MART_HOME": "/nonexistent", **dsn, **environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Where it serves, once it says so."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"live page: (http://127\.0\.0\.1:\d+/)\n", line)
        assert match, f"{line!r}, {self.process.communicate(timeout=10)}"
        return match[1]

    def ended(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit code and standard error, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@contextmanager
def served(reader_dsn: str | None, *options: str, **environment: str) -> Iterator[Page]:
    """A page that is gone at the end, however the test goes."""
    page = Page(reader_dsn, *options, **environment)
    try:
        yield page
    finally:
        if page.process.poll() is None:
            page.process.kill()
            page.process.communicate()


class Wire:
    """A port of this machine that leads to PostgreSQL until it is cut, and again when it is mended."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.dsn = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}"))
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(self._server)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections and break those there are."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._serve()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


REFUSED = "postgresql://analytics_reader:x@127.0.0.1:1/mart"


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()
