"""The streaming job in a process of its own, to be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


class Job:
    """A running `retail-mart run …` (or another verb) whose log goes to a file."""

    verb = "run"

    def __init__(self, environment: Mapping[str, str], log: Path, *options: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", self.verb, *options],
                env={**environment, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float = 120, times: int = 1) -> None:
        """Wait until the log says it; fails with the log's tail if the job ends or the time is up before."""
        deadline = time.monotonic() + seconds
        while self.text().count(words) < times:
            if self.process.poll() is not None and self.text().count(words) < times:
                raise AssertionError(
                    f"job ended with {self.process.returncode} before {words!r}: {self.text()[-3000:]}"
                )
            if time.monotonic() > deadline:
                raise AssertionError(f"no {words!r} in {seconds} s: {self.text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of the driver and its JVM at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the driver alone, as a service manager does; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


class WatchProcess(Job):
    """A running `retail-mart watch …`."""

    verb = "watch"


@contextmanager
def running(environment: Mapping[str, str], log: Path, *options: str, kind: type[Job] = Job) -> Iterator[Job]:
    """A job that is gone at the end, however the test goes."""
    job = kind(environment, log, *options)
    try:
        yield job
    finally:
        job.kill()
