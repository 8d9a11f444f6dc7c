"""The whole pipeline as processes of its own home: servers, commands, and the streaming job while it is needed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

import stack
from conf.errors import OperatorError
from conf.settings import Settings, read_settings
from conf.stop_signals import ended_by_signals
from stack.children import end_with_us

STREAMING_IS_READY = r"reading .*query=apply"
_OF_OTHER_SERVERS = {"KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "LAKE_PATH"}
_STOP_SECONDS = 60
_TAIL_CHARACTERS = 3000


class PipelineError(OperatorError):
    """A part of the pipeline failed; the message says which, and shows or names its log."""


class Pipeline:
    """A running pipeline: Kafka, PostgreSQL, the migrated mart. Its parts are the commands of the README."""

    def __init__(self, settings: Settings, console: Console, variables: Mapping[str, str]) -> None:
        self.settings, self.console, self._variables = settings, console, variables
        self.home = settings.mart_home

    def environment(self, variables: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """The environment of its commands: ours, without what names other servers than the pipeline's."""
        ours = {name: value for name, value in os.environ.items() if name not in _OF_OTHER_SERVERS}
        return {**ours, **self._variables, "MART_HOME": str(self.home), **variables}

    def log(self, name: str) -> Path:
        path = self.home / "log" / f"{name.replace(' ', '_')}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, doing: str, *arguments: str, variables: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run `retail-mart arguments` to its end; returns what it printed. Raises PipelineError if it fails."""
        wide = self.environment({"COLUMNS": str(self.console.width), **variables})  # its tables are for our terminal
        with self.console.status(doing):
            done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, env=wide)
        if done.returncode:
            raise PipelineError(f"{doing} failed (`retail-mart {' '.join(arguments)}`):\n{done.stderr or done.stdout}")
        return done.stdout

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `retail-mart arguments`, its output in the log of that name."""
        with self.log(name).open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops its parts in order
            )

    @contextmanager
    def running(self, name: str, ready: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A part that runs until the block's end, from when its log matches `ready` on; then stopped by SIGTERM.

        Raises PipelineError if it ends before it is ready, or with a failure.
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
                raise PipelineError(f"{name} ended with {part.returncode}, log: {self.log(name)}")
        finally:
            if part.poll() is None:
                part.terminate()
                try:
                    part.wait(timeout=_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    part.kill()
                    part.wait()

    def check(self, name: str, part: subprocess.Popen[bytes]) -> None:
        """Raise PipelineError, with the end of its log, if the part has ended."""
        if part.poll() is not None:
            tail = self.log(name).read_text(errors="replace")[-_TAIL_CHARACTERS:]
            raise PipelineError(f"{name} ended with {part.returncode}:\n{tail}")


@contextmanager
def pipeline(
    home: Path, console: Console, keep: bool = False, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Pipeline]:
    """A pipeline made anew in `home`, whatever the environment says of other servers; ended with the block, servers too
    unless `keep`.

    The end is also that of this process by any signal: SIGTERM and SIGHUP end the block by an exception, as Ctrl-C
    does, and after a kill -9 its guard ends what is left. `variables` are set for its commands. Raises StackError,
    SettingsError, PipelineError.
    """
    with ended_by_signals():
        stack.reset(home)
        with end_with_us(home, servers=not keep):
            yield _running(home, console, variables)


def _running(home: Path, console: Console, variables: Mapping[str, str]) -> Pipeline:
    start = time.perf_counter()
    given = read_settings(mart_home=home, lake_path=None)
    with console.status("starting Kafka and PostgreSQL"):
        state = stack.up(home, topic=given.kafka_topic, partitions=given.kafka_topic_partitions)
    addresses = {name.lower(): value for name, value in state.environment().items()}
    running = Pipeline(read_settings(mart_home=home, lake_path=None, **addresses), console, variables)
    running.run("migrating the mart", "migrate")
    console.print(
        f"Kafka at {state.kafka_bootstrap_servers} and PostgreSQL are up, the mart is migrated "
        f"({time.perf_counter() - start:.1f} s)"
    )
    return running
