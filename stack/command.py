"""A Python command in a process of its own: start it, wait for what it says, end it, kill it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from conf.errors import OperatorError

_PATIENCE_SECONDS = 300
_POLL_SECONDS = 0.05
_TAIL_CHARACTERS = 3000


class CommandError(OperatorError):
    """A command failed, or what it was to say or do did not happen in time; the message holds the end of its log."""


class Command:
    """A running `python -m MODULE ARGUMENTS`, its own process group, its output in a new log; gone with the block.

    `grace`: so many seconds pass between SIGTERM and kill -9 at the block's end; 0: it is killed at once.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        python: Path | str = sys.executable,
        grace: float = 0,
    ) -> None:
        self.name = " ".join([module, *arguments[:1]])
        self.log = log
        self._grace = grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [str(python), "-m", module, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C reaches who started it alone, and kill all that it started
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Whatever it does: nothing of it runs any more."""
        if self._grace and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self._grace)
        self.kill()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return self.text().strip()[-_TAIL_CHARACTERS:]

    def check(self) -> None:
        """Raise CommandError if it has ended."""
        if self.process.poll() is not None:
            raise CommandError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def wait_for(self, pattern: str, seconds: float = _PATIENCE_SECONDS, times: int = 1) -> None:
        """Until its log matches so often. Raises CommandError if it ends before, or the time does."""
        wait_until(lambda: len(re.findall(pattern, self.text())) >= times, seconds, f"no {pattern!r}", self)

    def wait(self, seconds: float = _PATIENCE_SECONDS) -> int:
        """Its exit code; negative: the signal that ended it. Raises CommandError if it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{self.name} did not end within {seconds:g} s:\n{self.tail()}") from None

    def succeed(self, seconds: float | None = None) -> str:
        """Wait for its end; what it said. Raises CommandError if it fails."""
        if self.process.wait(seconds):
            self.check()
        return self.text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process alone, as a service manager does; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the whole group."""
        os.killpg(self.pid, number)

    def is_held(self) -> bool:
        """Whether SIGSTOP holds it."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def kill(self) -> None:
        """kill -9 of it and of all that it started."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str, command: Command | None = None) -> None:
    """Raises CommandError with `otherwise` if it is not so after so long, or not when the command has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if command is not None and command.process.poll() is not None and not condition():
            raise CommandError(
                f"{otherwise}: {command.name} ended with {command.process.returncode}:\n{command.tail()}"
            )
        if time.monotonic() > deadline:
            raise CommandError(f"{otherwise} within {seconds:g} s" + (f":\n{command.tail()}" if command else ""))
        time.sleep(_POLL_SECONDS)
