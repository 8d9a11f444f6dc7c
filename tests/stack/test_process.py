"""What counts as a process that is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from stack import process

_FIRST_THREAD_ENDS = """
import ctypes, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=sys.stdin.read).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def headless() -> Iterator[subprocess.Popen[str]]:
    """A process whose first thread has ended and another lives and listens, as a JVM is while it dies."""
    started = subprocess.Popen(
        [sys.executable, "-c", _FIRST_THREAD_ENDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield started
    started.kill()
    started.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process as zombie while it has threads")
def test_a_zombie_with_a_thread_left_is_alive_and_holds_its_port(headless):
    port = int(headless.stdout.readline())
    watched = psutil.Process(headless.pid)
    while watched.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
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
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; print(subprocess.Popen(['true']).pid, flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        watched = psutil.Process(int(parent.stdout.readline()))  # type: ignore[union-attr]
        while watched.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not process.alive(watched)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
