"""Commands that wait for a lock, on a real server: who makes them wait is said, and a signal ends them, whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg2
import pytest
from structlog.testing import capture_logs

from mart import lock_watch
from operations.backup import backup
from operations.erase import erase
from tests.builders.files import ROOT
from tests.builders.mart_rows import locked, rows
from tests.builders.pipeline import new_mart
from tests.builders.waiting import until
from tests.builders.wire import wired

pytestmark = pytest.mark.stack

# What each waits for.
_VERBS = {
    "migrate": "public.migration",
    "verify": "mart.next_offset",
    "explain c1": "mart.customer",
    "rewind --only apply --yes": "mart.stream_writer",
    "prune --yes": "mart.invoice",
    "backup": "mart.invoice",
    "export c1": "mart.customer",
    "erase c1 --yes --accept-unknown": "mart.stream_writer",
    "rejected list": "mart.rejected_invoice",
    "rejected show 0:1": "mart.rejected_invoice",
    "rejected redrive --all": "mart.rejected_invoice",
}
_WAITING = (
    "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND datname = current_database()"
)


@pytest.mark.parametrize(
    ("number", "verbs"),
    [(signal.SIGINT, list(_VERBS)), (signal.SIGTERM, ["migrate", "erase c1 --yes --accept-unknown", "backup"])],
)
def test_a_signal_ends_every_command_that_waits(pipeline, number, verbs):
    with ExitStack() as held, closing(psycopg2.connect(pipeline.mart.owner_dsn)) as other:
        other.cursor().execute(f"LOCK TABLE {', '.join(sorted(set(_VERBS.values())))} IN ACCESS EXCLUSIVE MODE")
        started = {verb: held.enter_context(_started(pipeline.environment(), *verb.split())) for verb in verbs}
        until(lambda: rows(pipeline.mart.owner_dsn, _WAITING) == [(len(verbs),)])
        for process in started.values():
            process.send_signal(number)
        ended = {verb: (process.wait(60), process.stderr.read()) for verb, process in started.items()}
        # While the lock is held: no session is left in its queue, before which others would wait.
        until(lambda: rows(pipeline.mart.owner_dsn, _WAITING) == [(0,)])
    assert {verb: code for verb, (code, _) in ended.items()} == dict.fromkeys(verbs, 128 + number), ended
    assert not [said for _, said in ended.values() if "Traceback" in said]


def test_a_signal_ends_a_command_whose_server_has_fallen_silent(pipeline):
    with wired(pipeline.mart.owner_dsn) as to_server, locked(pipeline.mart.owner_dsn, "mart.stream_writer"):
        environment = {**pipeline.environment(), "MART_OWNER_DSN": to_server.dsn}
        with _started(environment, "erase", "c1", "--yes", "--accept-unknown") as process:
            until(lambda: rows(pipeline.mart.owner_dsn, _WAITING) == [(1,)])
            to_server.silent.set()
            process.send_signal(signal.SIGTERM)
            try:
                said = process.communicate(timeout=45)[1]
            finally:
                process.kill()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said


def test_a_repair_answers_too(pipeline):
    """Of a mart that has applied nothing: `verify` itself waits for nothing here."""
    with (
        locked(pipeline.mart.owner_dsn, "mart.stream_writer"),
        _started(pipeline.environment(), "verify", "--repair") as process,
    ):
        until(lambda: rows(pipeline.mart.owner_dsn, _WAITING) == [(1,)])
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, process.stderr.read()
        until(lambda: rows(pipeline.mart.owner_dsn, _WAITING) == [(0,)])


def test_a_restore_answers_too_and_leaves_nothing(pipeline, servers, tmp_path):
    dump = backup(pipeline.settings, tmp_path)
    with new_mart(servers) as empty, closing(psycopg2.connect(empty.owner_dsn)) as other:
        other.cursor().execute("CREATE SCHEMA mart")
        environment = {**pipeline.environment(), "MART_OWNER_DSN": empty.owner_dsn}
        with _started(environment, "restore", str(dump)) as process:
            until(lambda: rows(empty.owner_dsn, _WAITING) == [(1,)])
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130, process.stderr.read()
        other.rollback()
        assert rows(empty.owner_dsn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'mart'") == [(0,)]


def test_who_makes_a_command_wait_is_said(pipeline, monkeypatch):
    monkeypatch.setattr(lock_watch, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lock_watch, "_LOOK_SECONDS", 0.1)
    with capture_logs() as lines, locked(pipeline.mart.owner_dsn, "mart.stream_writer", "a migration") as other:
        thread = threading.Thread(target=erase, args=(pipeline.settings, "c1"))
        thread.start()
        until(lambda: any(x["event"] == "waiting for a lock" for x in lines))
        pid = other.info.backend_pid
        other.rollback()
        thread.join(60)
    said = next(x for x in lines if x["event"] == "waiting for a lock")
    assert (said["relation"], said["mode"]) == ("mart.stream_writer", "ExclusiveLock")
    [holder] = said["held_by"]
    assert f"pid {pid} of mart_owner (a migration)" in holder


def test_the_signals_are_as_before_after_it(pipeline):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    erase(pipeline.settings, "c1")
    assert {number: signal.getsignal(number) for number in before} == before
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup == -1


@contextmanager
def _started(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()  # where the test failed it still waits for the lock, and nobody would end it
