"""Airflow's own Python, and how a test runs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from conf.settings import Settings
from stack.airflow import airflow_python
from stack.state import StackError


@dataclass(frozen=True)
class AirflowCommand:
    """Runs Airflow's Python with a home of its own."""

    python: Path
    home: Path
    variables: Mapping[str, str]

    def run(self, *arguments: str, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Its output is one stream; what the person who runs the tests has set of Airflow does not count."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "ALERT_", "PYTHONPATH"))}
        return subprocess.run(
            [str(self.python), *arguments],
            env={**clean, **self.variables, **(extra or {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )


def needed_airflow_python() -> Path:
    """The Python of Airflow's environment; without one the test is skipped, or failed in CI."""
    try:
        return airflow_python(Settings())
    except StackError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
