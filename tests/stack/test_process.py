"""What counts as a process that is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from stack import process
from stack.state import StackError

_FIRST_THREAD_ENDS = """
import ctypes, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=sys.stdin.read).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


_A_CHILD_ENDS = """
import subprocess, sys
child = subprocess.Popen(["true"])  # kept: what Python throws away it reaps
print(child.pid, flush=True)
sys.stdin.read()
"""

_HOLDS_A_LOCK = """
import os, sys
from pathlib import Path
from stack import process
with process.locked(Path("the.lock"), 0, "taken"):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def printing_a_number(program: str) -> Iterator[tuple[int, int]]:
    """A Python process that prints a number and lives until its standard input ends: its pid, and the number."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        yield started.pid, int(started.stdout.readline())


def test_a_lock_is_refused_while_it_is_held_and_free_when_its_holder_was_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / "the.lock"
    with printing_a_number(_HOLDS_A_LOCK) as (pid, _):
        with pytest.raises(StackError, match="taken"), process.locked(lock, 0, "taken"):
            pass
        psutil.Process(pid).kill()
        with process.locked(lock, 60, "taken"):
            pass
    with process.locked(lock, 0, "taken"):  # given back
        pass


def zombie(pid: int) -> psutil.Process:
    """The process, once it is one."""
    watched = psutil.Process(pid)
    while watched.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    return watched


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process as zombie while it has threads")
def test_a_zombie_with_a_thread_left_is_alive_and_holds_its_port():
    """The first thread has ended and another lives and listens, as in a JVM while it dies."""
    with printing_a_number(_FIRST_THREAD_ENDS) as (pid, port):
        watched = zombie(pid)
        assert process.alive(watched)
        assert not process.is_free(port)
        process.kill(watched)
        assert not process.alive(watched)
        assert process.is_free(port)


def test_a_child_that_ended_is_not_alive_and_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", ""])
    watched = psutil.Process(child.pid)
    while process.alive(watched):
        time.sleep(0.01)
    assert not psutil.pid_exists(child.pid)


def test_a_zombie_that_its_parent_has_not_reaped_is_not_alive():
    with printing_a_number(_A_CHILD_ENDS) as (_, child):
        assert not process.alive(zombie(child))
