"""`retail-mart demo`, as a new user runs it, on a shop of two days."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_demo_ends_equal(tmp_path):
    demo = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--days", "2", "--rate", "200/s"],
        env={**os.environ, "MART_HOME": str(tmp_path), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"live page: http://127\.0\.0\.1:\d+/", demo.stdout)
    assert "equal: every row, every column, to the cent" in demo.stdout, "mart against lake"
    assert "also takes" in demo.stdout, "tonight's rules"
    assert "Customers who buy" in demo.stdout, "one recommendation"
    assert "equal: every customer, every column, to the cent" in demo.stdout, "mart against CSV files"
    status = subprocess.run(
        [sys.executable, "-m", "cli", "servers"],
        env={**os.environ, "MART_HOME": str(tmp_path / "demo")},
        capture_output=True,
        text=True,
    )
    assert status.returncode == 3, "its servers are down again"
    lines = demo.stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and str(tmp_path) not in line] == []
    what_next = [line for line in lines[lines.index("What next:") :] if line.startswith("  ") and " page " not in line]
    shown = subprocess.run(["sh", "-exc", "\n".join(what_next)], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Champions" in shown.stdout, "who spent most"


def test_demo_on_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    demo = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--data", str(tmp_path / "nowhere")], capture_output=True, text=True
    )
    assert demo.returncode == 2
    assert "does not exist" in " ".join(demo.stderr.replace("│", " ").split())
