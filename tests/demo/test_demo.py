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
        env={**os.environ, "MART_HOME": str(tmp_path)},
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


def test_demo_on_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    demo = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--data", str(tmp_path / "nowhere")], capture_output=True, text=True
    )
    assert demo.returncode == 2
    assert "does not exist" in " ".join(demo.stderr.replace("│", " ").split())
