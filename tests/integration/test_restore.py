"""The restore drill: a mart is lost, its backup restored, and the stream goes on; proved by `verify`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from unittest.mock import MagicMock

import psycopg2
import pytest

from conf.errors import FencedError, StreamingError
from conf.settings import Settings
from dashboards.reader import Reader, RefusedError
from mart.connection import connect
from mart.migrate import migrate
from mart.next_offsets import Writer, check_fence
from operations import backup as backup_module
from operations.backup import backup, restore
from operations.erase import erase
from operations.verify import verify
from streaming.apply_job import ApplyJob
from streaming.main import RunOptions, stream
from streaming.metrics import Metrics
from tests.builders.mart_rows import assert_mart_equals, rows, snapshot
from tests.builders.pipeline import Mart, Pipeline, new_mart
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from topic.describe import Topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def run(spark, settings) -> None:
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


# Where `restore` is killed: a function of operations.backup that it calls, the how manieth time, before or after it.
KILLS = (
    ("replay", 2, "before"),
    ("replay", 3, "after"),
    ("erase_listed_before_commit", 1, "before"),
    ("erase_listed_before_commit", 1, "after"),
)
KILLED = """
import os, pathlib, signal, sys
from conf.settings import settings
from operations import backup
name, times, when, dump = sys.argv[1:]
real, calls = getattr(backup, name), []
def deadly(*arguments):
    calls.append(name)
    if len(calls) == int(times) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(*arguments)
    if len(calls) == int(times):
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(backup, name, deadly)
backup.restore(settings(), pathlib.Path(dump))
"""


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "MART_OWNER_DSN": settings.require_mart("owner"),
        "MART_DSN": settings.require_mart(),
        "MART_HOME": str(settings.mart_home),
    }


def killed_at(point: tuple[str, int, str], settings: Settings, dump: Path) -> None:
    command = [sys.executable, "-c", KILLED, *map(str, point), str(dump)]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def killed_in_the_middle(settings: Settings, mart: Mart, dump: Path) -> None:
    """kill -9 of the command alone, as of a closed terminal, while the server is at work: somebody else is about to
    make a table of the same name, which holds it up."""
    with closing(psycopg2.connect(mart.owner_dsn)) as other, other.cursor() as cursor:
        cursor.execute("CREATE TABLE public.migration (number integer)")
        command = [sys.executable, "-m", "cli", "restore", str(dump)]
        process = subprocess.Popen(command, env=environment(settings))
        until(lambda: rows(mart.owner_dsn, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        process.kill()
        process.wait()
        other.rollback()
    assert not is_there(mart)
    # There is nothing that could be used by mistake: everything says so.
    with pytest.raises(StreamingError, match="or `restore` a backup"):
        ApplyJob(settings, RunOptions(), threading.Event(), Metrics(settings)).run(MagicMock())
    with pytest.raises(StreamingError, match="or `restore` a backup"):
        verify(settings, wait_seconds=0)
    reader = Reader(lambda: mart.reader_dsn)
    with pytest.raises(RefusedError, match="does not exist"):
        reader.rows("SELECT * FROM mart.stream_status")
    reader.close()


def is_there(mart: Mart) -> bool:
    """Once every session of the killed command is gone."""
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until(lambda: not rows(mart.owner_dsn, others))
    return bool(rows(mart.owner_dsn, "SELECT 1 FROM pg_class c WHERE c.relname IN ('invoice', 'migration')"))


def test_restore_drill(pipeline: Pipeline, servers, spark, tmp_path):
    events = random_events(900, customers=80, seed=41)
    customer = next(e["customer_id"] for e in events if e["customer_id"])
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events[:500]))
    run(spark, pipeline.settings)
    dump = backup(pipeline.settings, tmp_path / "backups")
    note = json.loads(dump.with_suffix(".json").read_text())
    assert note["invoices"] == sum(p["next_offset"] for p in note["next_offsets"]) == 500
    assert dump.stat().st_mode & 0o077 == 0
    noted = note["next_offsets"]
    of_0_1_0 = note | {"positions": note.pop("next_offsets")}
    dump.with_suffix(".json").write_text(json.dumps(of_0_1_0))
    of_then = snapshot(pipeline.mart.owner_dsn)
    # After the backup: more invoices, and an erasure. Then the mart is lost; the lake is ahead of its backup.
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events[500:800]))
    run(spark, pipeline.settings)
    erase(pipeline.settings, customer)
    [(epoch,)] = rows(pipeline.mart.owner_dsn, "SELECT epoch FROM mart.stream_writer")
    with pytest.raises(StreamingError, match="already holds a mart"):
        restore(pipeline.settings, dump)

    with new_mart(servers) as mart:
        dsns = {"mart_dsn": mart.writer_dsn, "mart_owner_dsn": mart.owner_dsn, "mart_reader_dsn": mart.reader_dsn}
        settings = pipeline.settings.model_validate(pipeline.settings.model_dump() | dsns)
        dump.write_bytes(dump.read_bytes() + b"x")
        with pytest.raises(StreamingError, match="is not the dump"):
            restore(settings, dump)
        dump.write_bytes(dump.read_bytes()[:-1])
        killed_in_the_middle(settings, mart, dump)
        for point in KILLS:
            killed_at(point, settings, dump)
            assert not is_there(mart), point
        done = restore(settings, dump)
        assert (done.erased_again, done.note["next_offsets"]) == (1, noted)
        restored = snapshot(mart.owner_dsn)
        assert [i[0] for i in restored["invoice"]] == [i[0] for i in of_then["invoice"]]
        assert customer not in {i[2] for i in restored["invoice"]}
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            assert migrate(owner) == []
        # A job that ran against the lost mart does not write into this one.
        with (
            closing(connect(mart.writer_dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(FencedError),
        ):
            check_fence(cursor, Writer(Topic(pipeline.topic, "", {}, {}), epoch))
        verified = verify(settings, wait_seconds=0)  # the lake is ahead
        assert verified.equal, verified.first
        assert verified.rows["invoice"] == 500

        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[800:]))
        run(spark, settings)
        verified = verify(settings, wait_seconds=0)
        assert verified.equal, verified.first
        assert verified.rows["invoice"] == 900
        others = [{**e, "customer_id": None if e["customer_id"] == customer else e["customer_id"]} for e in events]
        assert_mart_equals(mart.owner_dsn, expected_customers(others))
        # The rights came along: the reader reads views and no table.
        assert rows(mart.reader_dsn, "SELECT count(*) > 0 FROM mart.customer_segmentation") == [(True,)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(mart.reader_dsn, "SELECT * FROM mart.invoice")


def test_an_unfinished_backup_is_the_users_alone_and_goes(pipeline, tmp_path):
    """Stopped by a signal it clears away; what a kill -9 leaves is known by its name and goes the next time."""
    folder = tmp_path / "backups"

    def begun() -> tuple[subprocess.Popen[bytes], Path]:
        command = [sys.executable, "-m", "cli", "backup", str(folder)]
        process = subprocess.Popen(command, env=pipeline.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: list(folder.glob(f"*{process.pid}.partial")))
        [partial] = folder.glob(f"*{process.pid}.partial")
        assert partial.stat().st_mode & 0o077 == 0
        return process, partial

    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as other, other.cursor() as cursor:
        # Holds up pg_dump, in the middle: it has its file, and waits for the table.
        cursor.execute("LOCK TABLE mart.rule_run IN ACCESS EXCLUSIVE MODE")
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process, partial = begun()
            process.send_signal(number)
            assert process.wait(60) == code
            assert not partial.exists()
        process, partial = begun()
        process.kill()
        process.communicate()
        assert partial.exists()
        of_another_machine = folder / f"mart-20260101T000000Z.other-{process.pid}.partial"
        of_a_running_one = folder / f"mart-20260101T000000Z.{socket.gethostname()}-{os.getpid()}.partial"
        of_another_machine.touch()
        of_a_running_one.touch()
        other.rollback()
    done = subprocess.run(
        [sys.executable, "-m", "cli", "backup", str(folder)],
        env=pipeline.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    dump = Path(done.stdout.strip())
    assert f"removed, of a backup that was killed: {partial}" in done.stderr
    assert {path.name for path in folder.iterdir()} == {
        *(dump.name, dump.with_suffix(".json").name, of_another_machine.name, of_a_running_one.name)
    }


def test_a_restore_that_cannot_be_done_changes_nothing(pipeline, servers, tmp_path, monkeypatch):
    dump = backup(pipeline.settings, tmp_path)
    with new_mart(servers) as mart:
        settings = Settings(mart_dsn=mart.owner_dsn, lake_path=str(tmp_path / "none"))
        with closing(psycopg2.connect(mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
            tool = backup_module._tool("pg_restore", owner)
            cursor.execute("CREATE DOMAIN public.migration AS integer")
        with pytest.raises(StreamingError, match=r'cannot be restored here, nothing was changed: .*"migration"'):
            restore(settings, dump)
        rows(mart.owner_dsn, "DROP DOMAIN public.migration; SELECT 1")

        # pg_restore alone is killed: within a row of a table, and after its last one.
        script = subprocess.run([tool, "--section=data", "--file=-", dump], capture_output=True, check=True).stdout
        within = script.index(b"\t", script.index(b"COPY mart.segment_score") + 100) + 1
        after = script.index(b"\\.\n", within) + 3
        deadly = tmp_path / "pg_restore"
        monkeypatch.setattr(backup_module, "_tool", lambda *_: str(deadly))
        for cut, message in ((within, "broke off within a table"), (after, "pg_restore failed, nothing was changed")):
            deadly.write_text(
                f'#!/bin/sh\n[ "$1" = --section=data ] || exec {tool} "$@"\n{tool} "$@" | head -c {cut}; kill -9 $$\n'
            )
            deadly.chmod(0o700)
            with pytest.raises(StreamingError, match=message):
                restore(settings, dump)
            assert not is_there(mart)
        monkeypatch.undo()
        assert restore(settings, dump).erased_again is None
        assert is_there(mart)


def test_nothing_to_back_up_and_nothing_to_restore(fresh_mart, tmp_path):
    settings = Settings(mart_dsn=fresh_mart.owner_dsn, lake_path=str(tmp_path / "none"))
    with pytest.raises(StreamingError, match="nothing to back up"):
        backup(settings, tmp_path)
    with pytest.raises(StreamingError, match=r"no such file: .*; a backup is two"):
        restore(settings, tmp_path / "mart-1.dump")


@pytest.mark.parametrize(
    ("given", "note", "told"),
    [
        ("", None, "no file is named: give the dump to restore"),
        ("mart-1.dump", "{}", "is no note of `backup`"),
        ("mart-1.dump", "[]", "is no note of `backup`"),
        ("mart-1.dump", "not JSON", "is no note of `backup`"),
        ("mart-1.dump", '{"sha256": "00"}', "mart-1.dump cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_no_backup_is_named(tmp_path, given, note, told):
    if note is not None:
        (tmp_path / "mart-1.dump").mkdir()
        (tmp_path / "mart-1.json").write_text(note)
    settings = Settings(mart_dsn="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StreamingError, match=told):
        restore(settings, tmp_path / given if given else Path(given))
