"""A command in a process of its own: what it says, how it ends, and that nothing of it is left."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from stack.command import Command, CommandError, wait_until

PROGRAM = """
import signal, subprocess, sys, time
what = sys.argv[1]
if what == "tells SIGTERM":
    signal.signal(signal.SIGTERM, lambda *_: (print("told"), sys.exit(0)))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
if what == "fails":
    child.kill()
    sys.exit("no such thing")
while True:  # a signal that comes between Python's look for one and a long sleep would wait for that sleep's end
    time.sleep(0.1)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Starts the program above."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)

    def start(what: str, grace: float = 0) -> Command:
        return Command("program", what, log=tmp_path / "log" / "program.log", grace=grace)

    return start


def child_of(command: Command) -> psutil.Process:
    command.wait_for(r"child \d+")
    return psutil.Process(int(command.text().split()[1]))


def test_a_failure_is_told_with_the_end_of_the_log(program):
    with program("fails") as command:
        with pytest.raises(CommandError, match=r"program fails ended with 1:\nchild \d+\nno such thing"):
            command.succeed()
        with pytest.raises(CommandError, match="no 'ready': program fails ended with 1"):
            command.wait_for("ready")


def test_what_does_not_happen_in_time_is_told(program):
    with program("sleeps") as command:
        with pytest.raises(CommandError, match=r"no 'ready' within 0\.1 s"):
            command.wait_for("ready", seconds=0.1)
        with pytest.raises(CommandError, match=r"did not end within 0\.1 s"):
            command.wait(0.1)
        command.check()


@pytest.mark.parametrize(("grace", "code"), [(20, 0), (0, -signal.SIGKILL)])
def test_nothing_is_left_after_the_block(program, grace, code):
    with program("tells SIGTERM", grace) as command:
        child = child_of(command)
    assert command.process.returncode == code
    assert ("told" in command.text()) == (code == 0)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20, "the child runs on")


def test_a_held_command_goes_on(program):
    with program("tells SIGTERM") as command:
        child_of(command)
        command.signal(signal.SIGSTOP)
        wait_until(command.is_held, 20, "it is not held")
        command.signal(signal.SIGCONT)
        assert command.stop() == 0


def test_another_python_and_environment_are_taken(tmp_path):
    with Command(
        "sysconfig", log=tmp_path / "log", python=Path(sys.executable), environment={"PYTHONWARNINGS": "error"}
    ) as command:
        assert "Python version" in command.succeed()
