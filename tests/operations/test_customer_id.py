"""An id that is no UTF-8 is told in one sentence by every command that takes one, before anything is asked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("verb", [["explain"], ["export"], ["erase", "--yes"]])
@pytest.mark.stack
def test_bytes_that_are_no_utf_8(line, verb):
    done = subprocess.run(
        [sys.executable, "-m", "streaming", *verb, os.fsdecode(b"c\xff1")],
        cwd=ROOT,
        env=line.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "is not valid UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
