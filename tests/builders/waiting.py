"""How a test waits for what another process or thread does."""

from __future__ import annotations

import inspect
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(found: Callable[[], Found], seconds: float = 60, process: subprocess.Popen | None = None) -> Found:
    """What `found` returns, once it is true. Fails after so long, or when `process` ends before."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        ended = process is not None and process.poll() is not None
        assert not ended, f"{inspect.getsource(found).strip()}: it ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {inspect.getsource(found).strip()}"
        time.sleep(0.02)
    return result
