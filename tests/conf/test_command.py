"""What every command has in common."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_is_told_all_the_same(encoding):
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"}
    told = subprocess.run([sys.executable, "-m", "streaming", "--help"], capture_output=True, env=environment)
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"Kafka \\u2192 Spark" in told.stdout
