"""Airflow as `make airflow` starts it: a real one, on a free port, with nothing left of it at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from conf.settings import Settings
from stack.airflow import airflow_python, environment, start_run
from stack.children import children
from stack.state import StackError
from tests.builders.airflow import needed_airflow_python


def test_a_missing_environment_is_named_with_the_fix(tmp_path):
    with pytest.raises(StackError, match=r"no Airflow at /nowhere/python: run `make airflow-env`"):
        airflow_python(Settings(airflow_python=Path("/nowhere/python")))
    (tmp_path / "python").symlink_to(sys.executable)
    with pytest.raises(StackError, match="no Airflow at"):  # a Python, but without Airflow
        airflow_python(Settings(airflow_python=tmp_path / "python"))


def test_the_tasks_find_the_mart_and_the_projects_python(tmp_path):
    settings = Settings(mart_home=tmp_path, shop_time_zone="Europe/London")
    variables = environment(settings, Path("/airflow/bin/python"), Path("/project/bin/python"))
    assert variables["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert variables["MART_HOME"] == str(tmp_path)
    assert variables["MART_PYTHON"] == "/project/bin/python"
    assert variables["SHOP_TIME_ZONE"] == "Europe/London"
    assert variables["PATH"].split(os.pathsep)[0] == "/airflow/bin"
    chosen = settings.model_copy(update={"mart_python": Path("/other/bin/python")})
    assert environment(chosen, Path("/a"), Path("/b"))["MART_PYTHON"] == "/other/bin/python"


def ask(url: str, token: str | None = None, body: dict | None = None) -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_for(words: str, log: Path, server: subprocess.Popen, seconds: float = 240) -> str:
    deadline = time.monotonic() + seconds
    while words not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return log.read_text()


def listens_at(process: psutil.Process) -> list[str]:
    """Its listening addresses; none of a child that has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    return []


DAY = date(2024, 2, 14)
COMMAND = [sys.executable, "-m", "cli", "airflow"]


@pytest.fixture
def variables(tmp_path):
    airflow = {"AIRFLOW_PYTHON": str(needed_airflow_python()), "COLUMNS": "200"}
    return {**os.environ, **airflow, "MART_HOME": str(tmp_path / "home")}


def started(log: Path, variables: dict[str, str]) -> subprocess.Popen:
    with log.open("w") as output:
        return subprocess.Popen(COMMAND, env=variables, stdout=output, stderr=output)


@pytest.mark.slow
def test_all_of_it_ends_when_the_command_is_killed(tmp_path, variables):
    log, home = tmp_path / "output", tmp_path / "home"
    server = started(log, variables)
    try:
        wait_for("Ctrl-C stops all", log, server)
        assert len(children(home)) >= 3
    finally:
        server.kill()
        server.wait()
    deadline = time.monotonic() + 120
    while children(home):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_start_look_and_stop(tmp_path, variables):
    log = tmp_path / "output"
    home = tmp_path / "home"
    write_deltalake(
        str(home / "lake" / "invoices"),
        pa.table({"invoice": ["1"], "business_date": [DAY]}),
        partition_by=["business_date"],
    )
    begun = datetime.now(UTC)
    server = started(log, variables)
    family = []
    try:
        said = wait_for("Ctrl-C stops all", log, server)
        family = psutil.Process(server.pid).children(recursive=True)
        url = said.split("Airflow at ")[1].split(",")[0]
        passwords = home / "airflow" / "passwords.json"
        assert str(passwords) in said
        assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
        assert stat.S_IMODE(passwords.parent.stat().st_mode) == 0o700
        password = json.loads(passwords.read_text())["admin"]
        assert password not in said + (home / "airflow" / "airflow.log").read_text()
        token = ask(f"{url}/auth/token", body={"username": "admin", "password": password})["access_token"]
        deadline = time.monotonic() + 120
        while not (dags := ask(f"{url}/api/v2/dags", token)["dags"]) and time.monotonic() < deadline:
            time.sleep(1)  # the folder is still being read
        assert [dag["dag_id"] for dag in dags] == ["nightly_rules"]
        assert ask(f"{url}/api/v2/importErrors", token)["total_entries"] == 0
        second = subprocess.run(COMMAND, env=variables, capture_output=True, text=True)
        assert second.returncode == 1
        assert "Airflow is already running in" in second.stderr
        assert f"The lake ends on {DAY}: no run of last night" in said
        found = ask(f"{url}/api/v2/dags/nightly_rules/details", token)
        assert datetime.fromisoformat(found["start_date"]) > begun, "so the scheduler makes none"
        settings = Settings(mart_home=home, airflow_python=Path(variables["AIRFLOW_PYTHON"]))
        start_run(settings, Path(sys.executable), tmp_path / "log", "nightly_rules", {"business_date": "newest"})
        [run] = ask(f"{url}/api/v2/dags/nightly_rules/dagRuns", token)["dag_runs"]
        assert (run["run_type"], run["conf"]) == ("manual", {"business_date": "newest"})
        assert len(family) >= 3  # page, DAG processor, scheduler
        assert {address for member in family for address in listens_at(member)} == {"127.0.0.1"}
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=90) == 0
    assert "Airflow is stopped" in log.read_text()
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
