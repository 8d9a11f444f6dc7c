"""The whole line as processes of its own home: servers, commands, and the streaming job while it is needed."""

from __future__ import annotations

import math
import os
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
from stack.command import Command

STREAMING_IS_READY = r"reading .*query=apply"
_STOP_SECONDS = 60


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

    def start(self, name: str, *arguments: str) -> Command:
        """Start `retail-mart arguments`, its output in the log of that name; stopped at the block's end."""
        return Command("cli", *arguments, log=self.log(name), grace=_STOP_SECONDS)

    @contextmanager
    def running(self, name: str, ready: str, *arguments: str) -> Iterator[Command]:
        """A part that runs until the block's end, from when its log matches `ready` on; then stopped by SIGTERM.

        Raises CommandError if it ends before it is ready, LineError if it ends with a failure.
        """
        start = time.perf_counter()
        with self.start(name, *arguments) as part:
            with self.console.status(f"starting {name}"):
                part.wait_for(ready, seconds=math.inf)
            self.console.print(f"{name}: ready after {time.perf_counter() - start:.1f} s, log: {part.log}")
            yield part
            if part.stop() not in (0, -signal.SIGTERM):
                raise LineError(f"{name} ended with {part.process.returncode}, log: {part.log}")


@contextmanager
def line(home: Path, console: Console, keep: bool = False) -> Iterator[Line]:
    """A line made anew in `home`, whatever the environment says of other servers; stopped at the end unless `keep`.

    From here on this process and its children have the settings of the line. Raises StackError, LineError.
    """
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "LAKE_PATH"):
        os.environ.pop(name, None)
    os.environ["MART_HOME"] = str(home)
    stack.reset(home)
    start = time.perf_counter()
    settings.cache_clear()
    try:
        with console.status("starting Kafka and PostgreSQL"):
            state = stack.up_as_configured()
        settings.cache_clear()  # it was read before the servers had addresses
        running = Line(home, console)
        running.run("migrating the mart", "migrate")
        console.print(
            f"Kafka at {state.kafka_bootstrap_servers} and PostgreSQL are up, the mart is migrated "
            f"({time.perf_counter() - start:.1f} s)"
        )
        yield running
    finally:
        if not keep:
            with console.status("stopping Kafka and PostgreSQL"):
                stack.down(home)
