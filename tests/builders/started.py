"""A command that starts servers or processes of a home: begun by a test, and whatever a failure leaves is ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import stack


@contextlib.contextmanager
def started_command(home: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python ARGUMENTS` with these variables; killed at the block's end, and the servers of `home` stopped."""
    environment = {**os.environ, **variables}
    with subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL) as started:
        try:
            yield started
        finally:
            started.kill()
            started.wait()
            stack.down(home)
