"""What a command started for its own run ends with it, by whatever signal the command itself was ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import stack
from stack import children
from tests.builders.started import started_command
from tests.builders.waiting import until

_SECONDS = 120  # to wait in, none is asserted
_SLEEP = "import time; time.sleep(600)"
# It ends neither by SIGTERM nor with the process that started it, and has a session of its own.
_STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_SLEEP}"
_STARTS_ONE = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {_STUBBORN!r}], start_new_session=True)
time.sleep(600)
"""
_COMMAND = f"""
import subprocess, sys, time
from pathlib import Path
from stack.children import end_with_us
with end_with_us(Path(sys.argv[1]), servers=False, seconds=1):
    subprocess.Popen([sys.executable, "-c", {_STARTS_ONE!r}], start_new_session=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def command(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that has started a process, which has started another."""
    with subprocess.Popen([sys.executable, "-c", _COMMAND, str(home)]) as started:
        try:
            until(lambda: len(children.children(home.resolve())) == 2, _SECONDS)
            yield started
        finally:
            started.kill()
            started.wait()
            children.end(lambda: children.children(home.resolve()), seconds=0)


def guard_of(started: subprocess.Popen[bytes]) -> psutil.Process:
    return next(p for p in psutil.Process(started.pid).children() if children._GUARD in p.cmdline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_all_that_a_killed_command_started_ends(tmp_path, number):
    with command(tmp_path) as started:
        guard = guard_of(started)
        assert [(s.command_pid, s.left) for s in stack.started(tmp_path)] == [(started.pid, False)]
        guard.terminate()  # who ends a whole container or service sends it to the guard as well
        started.send_signal(number)
        assert started.wait() == -number
        until(lambda: not children.children(tmp_path.resolve()), _SECONDS)
        until(lambda: not guard.is_running(), _SECONDS)


def test_what_was_left_is_shown_and_ended_by_the_next_command(tmp_path, monkeypatch):
    with command(tmp_path) as started:
        stack.down(tmp_path)
        assert len(children.children(tmp_path.resolve())) == 2  # those of a command that runs are its own
        guard_of(started).kill()
        started.kill()
        started.wait()
        [left] = stack.started(tmp_path)
        assert left.left
        assert stack.started(tmp_path / "another home") == []
        monkeypatch.setattr(children.end, "__defaults__", (1,))
        said: list[str] = []
        stack.down(tmp_path, said.append)
        assert any(f"(pid {left.pid}), which a killed command had left" in line for line in said)
        assert children.children(tmp_path.resolve()) == []


@contextlib.contextmanager
def with_servers(home: Path, program: str, trap: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A program with servers that are up for it, once it runs; whatever a failure leaves is ended."""
    command = ("-m", "cli", "with-servers", "sh", "-c", f'{trap}touch "$STARTED"; {program}')
    with started_command(home, *command, MART_HOME=str(home), STARTED=str(home / "started")) as started:
        until((home / "started").exists, _SECONDS)
        yield started


def running(home: Path) -> list[bool]:
    return [server.running for server in stack.status(home)]


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_servers_end_with_the_program_that_they_were_started_for(tmp_path, number):
    with with_servers(tmp_path, "sleep 600 & wait", trap="trap 'exit 9' TERM INT HUP; ") as started:
        assert running(tmp_path) == [True, True]
        started.send_signal(number)  # the program's, which may end as it likes
        assert started.wait(_SECONDS) == 9
        assert running(tmp_path) == [False, False]
        assert children.children(tmp_path.resolve()) == []


@pytest.mark.stack
def test_servers_end_when_the_command_is_killed(tmp_path):
    with with_servers(tmp_path, "sleep 600") as started:
        started.kill()
        until(lambda: running(tmp_path) == [False, False] and not children.children(tmp_path.resolve()), _SECONDS)


@pytest.mark.stack
def test_a_server_that_was_there_before_stays(tmp_path):
    stack.up(tmp_path)
    stack.stop_broker(tmp_path)
    with with_servers(tmp_path, "exit 7") as started:
        assert started.wait(_SECONDS) == 7
        assert running(tmp_path) == [False, True]
        assert list(stack.read_state(tmp_path).environment()) == ["MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN"]


def test_a_pid_that_another_process_has_today_is_not_the_command(tmp_path):
    us = psutil.Process()
    assert children.Command(us.pid, us.create_time(), tmp_path).runs()
    assert not children.Command(us.pid, us.create_time() - 60, tmp_path).runs()


@pytest.mark.parametrize("mark", ["", "1", "x 1.0 /home", "1 y /home"])
def test_a_mark_that_is_none_names_no_command(mark):
    assert children.Command.from_mark(mark) is None


def test_a_mark_keeps_the_home_as_it_is_named(tmp_path):
    command = children.Command(7, 1795847513.43, tmp_path / "Läden, a home")
    assert children.Command.from_mark(command.mark()) == command
