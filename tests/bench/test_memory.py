"""The sampled peak of a process and of what it starts."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.memory import PeakMemory

_CHILD = "import time; held = b'x' * 150_000_000; print('held', flush=True); time.sleep(60)"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"


def test_the_peak_holds_what_a_child_took():
    process = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, start_new_session=True)
    try:
        with PeakMemory([process.pid]) as memory, PeakMemory([process.pid], descendants=False) as alone:
            assert process.stdout
            process.stdout.readline()
            memory.sample()
            alone.sample()
        assert memory.megabytes > 150_000_000 / 2**20
        assert alone.megabytes < 150_000_000 / 2**20
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_a_process_that_has_ended_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    with PeakMemory([process.pid]) as memory:
        process.wait()
        memory.sample()
    assert memory.bytes > 0
