"""The whole line as processes of its own home: servers, commands, and the streaming job while it is needed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

import stack
from conf.errors import OperatorError
from conf.settings import settings
from conf.stop_signals import ended_by_signals
from stack.children import end_with_us

STREAMING_IS_READY = r"reading .*query=apply"
_STOP_SECONDS = 60
_TAIL_CHARACTERS = 3000


class LineError(OperatorError):
    """A part of the line failed; the message says which, and shows or names its log."""


class Line:
    """A running line in `home`: Kafka, PostgreSQL, the migrated mart. Its parts are the commands of the README."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.console = console

    def log(self, name: str) -> Path:
        path = self.home / "log" / f"{name.replace(' ', '_')}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, doing: str, *arguments: str) -> str:
        """Run `retail-mart arguments` to its end; returns what it printed. Raises LineError if it fails."""
        wide = {**os.environ, "COLUMNS": str(self.console.width)}  # its tables are for our terminal
        with self.console.status(doing):
            done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, env=wide)
        if done.returncode:
            raise LineError(f"{doing} failed (`retail-mart {' '.join(arguments)}`):\n{done.stderr or done.stdout}")
        return done.stdout

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `retail-mart arguments`, its output in the log of that name."""
        with self.log(name).open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops its parts in order
            )

    @contextmanager
    def running(self, name: str, ready: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A part that runs until the block's end, from when its log matches `ready` on; then stopped by SIGTERM.

        Raises LineError if it ends before it is ready, or with a failure.
        """
        start = time.perf_counter()
        part = self.start(name, *arguments)
        try:
            with self.console.status(f"starting {name}"):
                while not re.search(ready, self.log(name).read_text(errors="replace")):
                    self.check(name, part)
                    time.sleep(0.1)
            self.console.print(f"{name}: ready after {time.perf_counter() - start:.1f} s, log: {self.log(name)}")
            yield part
            part.send_signal(signal.SIGTERM)
            if part.wait(timeout=_STOP_SECONDS) not in (0, -signal.SIGTERM):
                raise LineError(f"{name} ended with {part.returncode}, log: {self.log(name)}")
        finally:
            if part.poll() is None:
                part.terminate()
                try:
                    part.wait(timeout=_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    part.kill()
                    part.wait()

    def check(self, name: str, part: subprocess.Popen[bytes]) -> None:
        """Raise LineError, with the end of its log, if the part has ended."""
        if part.poll() is not None:
            tail = self.log(name).read_text(errors="replace")[-_TAIL_CHARACTERS:]
            raise LineError(f"{name} ended with {part.returncode}:\n{tail}")


@contextmanager
def line(home: Path, console: Console, keep: bool = False) -> Iterator[Line]:
    """A line made anew in `home`, whatever the environment says of other servers; stopped at the end unless `keep`.

    The end is also that of this process by any signal: SIGTERM and SIGHUP end the block by an exception, as Ctrl-C
    does, and after a kill -9 its guard ends what is left.
    From here on this process and its children have the settings of the line. Raises StackError, LineError.
    """
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "LAKE_PATH"):
        os.environ.pop(name, None)
    os.environ["MART_HOME"] = str(home)
    with ended_by_signals():
        stack.reset(home)
        with end_with_us(home, servers=not keep):
            yield _running(home, console)


def _running(home: Path, console: Console) -> Line:
    start = time.perf_counter()
    settings.cache_clear()
    with console.status("starting Kafka and PostgreSQL"):
        state = stack.up_as_configured()
    settings.cache_clear()  # it was read before the servers had addresses
    running = Line(home, console)
    running.run("migrating the mart", "migrate")
    console.print(
        f"Kafka at {state.kafka_bootstrap_servers} and PostgreSQL are up, the mart is migrated "
        f"({time.perf_counter() - start:.1f} s)"
    )
    return running
