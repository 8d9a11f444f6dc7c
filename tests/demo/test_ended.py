"""The pipeline ends with the command that made it, on a signal at its start and in its midst, and by kill -9 too."""

from __future__ import annotations

import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import stack
from stack import children
from tests.builders.started import started_command
from tests.builders.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

_SECONDS = 240  # to wait in, none is asserted
_PIPELINE = """
import sys, time
from pathlib import Path
from rich.console import Console
from demo.pipeline import pipeline
with pipeline(Path(sys.argv[1]), Console()) as parts, parts.running("live page", "live page: ", "page"):
    time.sleep(600)
"""


def ended(home: Path, *command: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A command that makes a pipeline in `home`."""
    return started_command(home, *command, PYTHONUNBUFFERED="1", MART_HOME=str(home.parent))


def of_home(home: Path) -> list[int]:
    """Kafka, PostgreSQL and all else that was started for the pipeline, by their pids."""
    return [child.process.pid for child in children.children(home.resolve())]


def running_servers(home: Path) -> int:
    return sum(server.running for server in stack.status(home))


def assert_ends(started: subprocess.Popen[bytes], home: Path, number: signal.Signals) -> None:
    """By the signal the command ends as told, and with it everything that it started."""
    assert of_home(home)
    started.send_signal(number)
    code = started.wait(_SECONDS)
    if number == signal.SIGKILL:
        assert code == -number
        until(lambda: not of_home(home) and not running_servers(home), _SECONDS)
        return
    assert code in (-number, 128 + number)
    assert of_home(home) == []
    assert running_servers(home) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_servers_and_parts_end_with_the_command(tmp_path, number):
    home = tmp_path / "demo"
    with ended(home, "-c", _PIPELINE, str(home)) as started:
        until(lambda: any(s.name == "retail-mart page" for s in stack.started(home)), _SECONDS, started)
        assert running_servers(home) == 2
        assert_ends(started, home, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_start_that_is_cut_short_leaves_nothing(tmp_path, number):
    home = tmp_path / "demo"
    with ended(home, "-c", _PIPELINE, str(home)) as started:
        until(lambda: running_servers(home), _SECONDS, started)
        assert_ends(started, home, number)


def test_the_whole_demo_ends_when_it_is_killed(tmp_path):
    home = tmp_path / "demo"
    with ended(home, "-m", "cli", "demo", "--days", "1", "--rate", "5/s") as started:
        until(lambda: any(s.name == "retail-mart replay" for s in stack.started(home)), _SECONDS, started)
        names = {child.name() for child in children.children(home.resolve())}
        assert {
            "retail-mart page",
            "retail-mart run",
            "retail-mart replay",
            "java",
            "postgres",
        } <= names  # java: Kafka and Spark
        assert_ends(started, home, signal.SIGKILL)
