"""Debian's PgBouncer before a test's PostgreSQL, in transaction mode: each transaction may get another session."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from stack.privileges import owner_for, run_as
from stack.process import free_port
from tests.builders.pipeline import Mart


def pgbouncer() -> Path | None:
    """Where it is: Debian puts it where only root's PATH looks."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    return Path(found) if found else None


@contextmanager
def pooled(mart: Mart, folder: Path) -> Iterator[Mart]:
    """The same mart through a pooler that has few sessions, for all roles."""
    program = pgbouncer()
    assert program is not None
    server, port = urlsplit(mart.owner_dsn), free_port()
    folder.mkdir()
    users = [urlsplit(dsn) for dsn in (mart.owner_dsn, mart.writer_dsn, mart.reader_dsn)]
    (folder / "users.txt").write_text("".join(f'"{user.username}" "{user.password}"\n' for user in users))
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.hostname} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users.txt\nlogfile = {folder}/log\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nserver_round_robin = 1\n"
    )
    user = owner_for(folder)
    if user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, *user)
    way = run_as(user, program, folder, reaches='"$1" --version >/dev/null && cd "$2"')
    uid, gid = way.user or (None, None)
    process = subprocess.Popen(
        [*way.prefix, str(program), "-q", str(folder / "pgbouncer.ini")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=uid,
        group=gid,
        extra_groups=[] if way.user else None,
    )
    at = {name: _at(getattr(mart, name), port) for name in ("owner_dsn", "writer_dsn", "reader_dsn")}
    try:
        _wait(at["owner_dsn"], process, folder)
        yield replace(mart, **at)
    finally:
        process.terminate()
        process.wait()


def _at(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))


def _wait(dsn: str, process: subprocess.Popen, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg2.connect(dsn).close()
        except psycopg2.OperationalError as error:
            log = folder / "log"
            assert process.poll() is None, log.read_text() if log.exists() else "no log"
            assert time.monotonic() < deadline, error
            time.sleep(0.05)
        else:
            return
