"""Airflow in its own environment, with a database of its own below a temporary home."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conf.settings import Settings
from stack.airflow import environment
from tests.batch_rules.conftest import lake, shop  # noqa: F401  (fixtures: a night has both)
from tests.builders.airflow import AirflowCommand, needed_airflow_python


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> AirflowCommand:
    python = needed_airflow_python()
    settings = Settings(mart_home=tmp_path_factory.mktemp("airflow"))
    command = AirflowCommand(python, settings.mart_home, environment(settings, python, Path(sys.executable)))
    migrated = command.run("-m", "airflow", "db", "migrate")
    assert migrated.returncode == 0, migrated.stdout[-3000:]
    return command
