"""What a command started for its own run ends with it, by whatever signal the command itself was ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import stack
from stack import children

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
            wait_until(lambda: len(children.children(home.resolve())) == 2)
            yield started
        finally:
            started.kill()
            started.wait()
            children.end(lambda: children.children(home.resolve()), seconds=0)


def wait_until(holds) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def guard_of(started: subprocess.Popen[bytes]) -> psutil.Process:
    return next(p for p in psutil.Process(started.pid).children() if children._GUARD in p.cmdline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_all_that_a_killed_command_started_ends(tmp_path, number, monkeypatch):
    with command(tmp_path) as started:
        guard = guard_of(started)
        assert [(s.command_pid, s.left) for s in stack.started(tmp_path)] == [(started.pid, False)]
        guard.terminate()  # who ends a whole container or service sends it to the guard as well
        started.send_signal(number)
        assert started.wait() == -number
        wait_until(lambda: not children.children(tmp_path.resolve()))
        wait_until(lambda: not guard.is_running())


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
        assert any(f"(pid {left.pid}), left by a command that is gone" in line for line in said)
        assert children.children(tmp_path.resolve()) == []


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
