"""The whole pipeline as processes of its own home: servers, commands, and the streaming job while it is needed."""

from __future__ import annotations

import math
import os
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
from stack.command import Command

STREAMING_IS_READY = r"reading .*query=apply"
_OF_OTHER_SERVERS = {"KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "LAKE_PATH"}
_STOP_SECONDS = 60


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

    def start(self, name: str, *arguments: str) -> Command:
        """Start `retail-mart arguments`, its output in the log of that name; stopped at the block's end."""
        return Command("cli", *arguments, log=self.log(name), environment=self.environment(), grace=_STOP_SECONDS)

    @contextmanager
    def running(self, name: str, ready: str, *arguments: str) -> Iterator[Command]:
        """A part that runs until the block's end, from when its log matches `ready` on; then stopped by SIGTERM.

        Raises CommandError if it ends before it is ready, PipelineError if it ends with a failure.
        """
        start = time.perf_counter()
        with self.start(name, *arguments) as part:
            with self.console.status(f"starting {name}"):
                part.wait_for(ready, seconds=math.inf)
            self.console.print(f"{name} is ready ({time.perf_counter() - start:.1f} s)")
            yield part
            if part.stop() not in (0, -signal.SIGTERM):
                raise PipelineError(f"{name} ended with {part.process.returncode}, log: {part.log}")


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
        if home.exists():
            console.print(f"starting afresh: what an earlier run left in {home} is replaced", soft_wrap=True)
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
    console.print(f"logs: {home / 'log'}", soft_wrap=True)
    return running
