"""The page in a process of its own, and how a test asks it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


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


REFUSED = "postgresql://analytics_reader:x@127.0.0.1:1/mart"


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()
