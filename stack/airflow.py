"""Airflow for one machine: scheduler, web page and database below MART_HOME/airflow, with the project's DAGs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psutil

from conf.settings import Settings
from stack import lifecycle, process
from stack.children import end_with_us
from stack.state import StackError, write_private

_PROJECT = Path(__file__).resolve().parents[1]
_USER = "admin"
_PREFERRED_PORT = 8080
_READY_SECONDS = 180
_STOP_SECONDS = 10


@dataclass(frozen=True)
class Airflow:
    """A running Airflow. Its page asks for `user` and the password in `passwords`, a file for its owner's eyes."""

    url: str
    user: str
    passwords: Path
    home: Path
    log: Path
    servers: tuple[psutil.Process, ...]

    def wait(self) -> None:
        """Until one of its processes ends."""
        while all(process.alive(server) for server in self.servers):
            time.sleep(1)


def airflow_python(settings: Settings) -> Path:
    """The Python of Airflow's environment. Raises StackError naming the fix if it is not there."""
    python = settings.airflow_python or _PROJECT / ".venv-airflow" / "bin" / "python"
    if not os.access(python, os.X_OK) or not python.with_name("airflow").exists():
        raise StackError(f"no Airflow at {python}: run `make airflow-env`, or set AIRFLOW_PYTHON")
    return python


def environment(settings: Settings, python: Path, mart_python: Path) -> dict[str, str]:
    """The variables with which `airflow` works on this home's database and the project's DAGs.

    `mart_python` is what the tasks run the project with where MART_PYTHON says nothing else.
    """
    home = settings.mart_home / "airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(_PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{_USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__PARALLELISM": "4",  # that many worker processes wait for tasks; a night is one after the other
        "SPT_NOENV": "1",  # else a process's title is written over its environment, where stack.children's mark is
        "MART_HOME": str(settings.mart_home),
        "MART_PYTHON": str(settings.mart_python or mart_python),
        "SHOP_TIME_ZONE": settings.shop_time_zone,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # Airflow starts `airflow`
    }


def command(settings: Settings, mart_python: Path, arguments: Sequence[str], output: IO[bytes] | None = None) -> int:
    """Run one `airflow` command on this home's database, in the foreground; returns its exit code."""
    python = airflow_python(settings)
    variables = environment(settings, python, mart_python)
    return subprocess.run(
        [str(python), "-m", "airflow", *arguments], env={**os.environ, **variables}, stdout=output, stderr=output
    ).returncode


def is_new(settings: Settings) -> bool:
    """Whether Airflow was never started in this home."""
    return not (settings.mart_home / "airflow" / "passwords.json").exists()


def start_run(settings: Settings, mart_python: Path, log: Path, dag: str, conf: Mapping[str, object]) -> None:
    """Unpause a DAG of the running Airflow and start a run of it. Raises StackError if that fails for too long."""
    started = ["dags", "trigger", dag, "--conf", json.dumps(conf)]
    deadline = time.monotonic() + _READY_SECONDS
    with log.open("ab") as output:
        for arguments in (["dags", "unpause", "--yes", dag], started):
            while command(settings, mart_python, arguments, output):  # until the folder of DAGs has been read
                if time.monotonic() > deadline:
                    raise StackError(f"Airflow does not start a run of {dag}; the end of {log}:\n{process.tail(log)}")


@contextlib.contextmanager
def running(settings: Settings, mart_python: Path, nights_since: datetime | None = None) -> Iterator[Airflow]:
    """Airflow, ready to be used. All its processes end with the block, or with this process, however that ends; a task
    that runs is given some seconds, too. No night before `nights_since` is made up for.

    Raises StackError if its environment is missing, if one runs in this home already, or if it does not get ready.
    """
    python = airflow_python(settings)
    variables = environment(settings, python, mart_python)
    home = Path(variables["AIRFLOW_HOME"])
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # the database holds what the tasks logged and were given
    refusal = f"Airflow is already running in {home}: its first start shows the URL; end it there with Ctrl-C"
    with (
        process.locked(home / "airflow.lock", 0, refusal),
        end_with_us(settings.mart_home, servers=False, seconds=_STOP_SECONDS),
    ):
        lifecycle.end_left_over(settings.mart_home)
        passwords = Path(variables["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        if not passwords.exists():  # else Airflow makes one up and writes it into its log
            write_private(passwords, json.dumps({_USER: secrets.token_urlsafe(12)}))
        port = process.free_port(_PREFERRED_PORT)
        url = f"http://127.0.0.1:{port}"
        variables |= {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
        }
        if nights_since:
            variables["NIGHTLY_RULES_SINCE"] = nights_since.isoformat()
        log = home / "airflow.log"
        _migrate(settings, mart_python, log)
        # As `airflow standalone` would, but that one shows the tasks' logs to the network, starts tasks before
        # the server that they report to, and has a triggerer, which nothing here needs.
        page = _start(python, variables, log, "api-server")
        process.wait_until_ready(page, "Airflow", log, lambda: _health(url) is not None, _READY_SECONDS)
        dags = _start(python, variables, log, "dag-processor")
        scheduler = _start(python, variables, log, "scheduler", "--skip-serve-logs")
        process.wait_until_ready(scheduler, "Airflow", log, lambda: _healthy(url), _READY_SECONDS)
        yield Airflow(url, _USER, passwords, home, log, (page, dags, scheduler))


def _migrate(settings: Settings, mart_python: Path, log: Path) -> None:
    with log.open("ab") as output:
        if command(settings, mart_python, ["db", "migrate"], output):
            raise StackError(f"Airflow's database cannot be created; the end of {log}:\n{process.tail(log)}")


def _start(python: Path, variables: Mapping[str, str], log: Path, *arguments: str) -> psutil.Process:
    server = [str(python), "-m", "airflow", *arguments]
    return process.start(server, log, cwd=log.parent, environment={**os.environ, **variables})


def _health(url: str) -> dict[str, Any] | None:
    """What Airflow says of its parts, or None: it is unavailable."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def _healthy(url: str) -> bool:
    health = _health(url) or {}
    parts = ("metadatabase", "scheduler", "dag_processor")
    return all((health.get(part) or {}).get("status") == "healthy" for part in parts)
