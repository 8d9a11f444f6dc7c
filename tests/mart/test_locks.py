"""Locks on a real server: who makes the job wait is said, and a stop signal ends the wait, whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest.mock import MagicMock

import psycopg2
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from conf.errors import StreamingError, UnavailableError
from mart import lock_watch, watchdog
from mart.connection import connect
from mart.locks import read_wait
from streaming.apply_job import ApplyJob
from streaming.job import RunOptions
from streaming.metrics import Metrics
from tests.builders.mart_rows import locked, rows
from tests.builders.waiting import until
from tests.builders.wire import wired

pytestmark = pytest.mark.stack

_ASLEEP = (  # what another role's session waits for is not shown, its locks are
    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
)


@pytest.fixture
def job(pipeline) -> Iterator[ApplyJob]:
    made = ApplyJob(pipeline.settings, RunOptions(), threading.Event(), Metrics(pipeline.settings))
    yield made
    made.close()


class InThread(threading.Thread):
    """What the job does, beside the test; `failure` is how it ended."""

    def __init__(self, job: ApplyJob, statement: str) -> None:
        super().__init__()
        self.job, self.statement, self.failure = job, statement, None
        self.start()

    def run(self) -> None:
        try:
            with self.job._mart() as connection, connection, connection.cursor() as cursor:
                cursor.execute(self.statement)
        except BaseException as failure:
            self.failure = failure


def shown(job: ApplyJob) -> float | None:
    return job.metrics.registry.get_sample_value("mart_lock_wait_seconds")


def waiting(dsn: str):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        return read_wait(cursor)


def test_who_makes_it_wait_is_said_and_again(pipeline, job, monkeypatch):
    monkeypatch.setattr(lock_watch, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lock_watch, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(lock_watch, "_SAY_SECONDS", 0.3)
    with capture_logs() as lines:
        with locked(pipeline.mart.owner_dsn, "mart.invoice", "a migration") as other:
            thread = InThread(job, "SELECT count(*) FROM mart.invoice")
            until(lambda: len([x for x in lines if x["event"] == "waiting for a lock"]) >= 2)
            until(lambda: waiting(pipeline.mart.reader_dsn) is not None)
            by_reader = waiting(pipeline.mart.reader_dsn)
            assert shown(job) > 0
            pid = other.info.backend_pid
            other.rollback()
        thread.join(60)
    assert thread.failure is None
    assert waiting(pipeline.mart.reader_dsn) is None
    assert shown(job) == 0
    said = next(x for x in lines if x["event"] == "waiting for a lock")
    assert said["relation"] == by_reader.relation == "mart.invoice"
    [holder] = said["held_by"]
    assert f"pid {pid} of mart_owner (a migration)" in holder
    # Another role's statement is not the writer's to see, nor the reader's.
    assert (by_reader.blockers[0].statement, by_reader.blockers[0].in_transaction_since) == (None, None)


def test_of_a_statement_the_words_before_its_first_value(pipeline, job):
    with (
        closing(psycopg2.connect(pipeline.mart.writer_dsn, application_name="psql")) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("INSERT INTO mart.stream_writer VALUES ('t', 1, 'x')")
        cursor.execute("UPDATE mart.stream_writer SET application = 'customer 4711' WHERE topic = 't'")
        thread = InThread(job, "INSERT INTO mart.stream_writer VALUES ('t', 2, 'y')")
        until(lambda: waiting(pipeline.mart.writer_dsn) is not None)
        wait = waiting(pipeline.mart.writer_dsn)
        other.rollback()
        thread.join(60)
    assert thread.failure is None
    [blocker] = wait.blockers
    assert blocker.statement == "UPDATE mart.stream_writer SET application"
    assert blocker.in_transaction_since is not None
    assert wait.relation is None
    assert "4711" not in str(wait)
    assert "a row that another transaction has changed" in str(wait)


def test_a_stop_ends_the_wait_and_nothing_of_it_stays(pipeline, job):
    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as other, other.cursor() as cursor:
        cursor.execute("INSERT INTO mart.stream_writer VALUES ('held', 1, 'x')")
        insert = "INSERT INTO mart.stream_writer VALUES "
        thread = InThread(job, f"{insert} ('mine', 1, 'y'); {insert} ('held', 2, 'y')")
        until(lambda: waiting(pipeline.mart.writer_dsn) is not None)
        job.stopping.set()
        thread.join(60)  # while the lock is held
        assert not thread.is_alive()
        assert isinstance(thread.failure, UnavailableError)
        assert waiting(pipeline.mart.writer_dsn) is None
        other.commit()
    assert rows(pipeline.mart.owner_dsn, "SELECT topic FROM mart.stream_writer") == [("held",)]


def test_a_stop_ends_the_wait_of_a_start(pipeline, job):
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("INSERT INTO mart.shop VALUES (true, 'ignore', 'event', 'Asia/Jakarta')")
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM mart.shop FOR UPDATE")
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(job.run, MagicMock())  # of Spark it would need the reading of the topic, later
            until(lambda: waiting(pipeline.mart.writer_dsn) is not None)
            job.stopping.set()
            assert run.result(60) is None  # as any clean stop
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.stream_writer") == [(0,)]


def test_a_stop_waits_for_no_server_that_has_fallen_silent(pipeline, monkeypatch):
    monkeypatch.setattr(watchdog, "SILENCE_SECONDS", 0.5)
    with wired(pipeline.mart.writer_dsn) as to_server:
        settings = pipeline.settings.model_copy(update={"mart_dsn": SecretStr(to_server.dsn)})
        job = ApplyJob(settings, RunOptions(), threading.Event(), Metrics(settings))
        thread = InThread(job, "SELECT pg_advisory_xact_lock(1), pg_sleep(120)")
        until(lambda: rows(pipeline.mart.owner_dsn, _ASLEEP) == [(1,)])
        to_server.silent.set()
        job.stopping.set()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(thread.failure, UnavailableError)
        job.close()


def test_a_stop_leaves_alone_what_does_not_wait(pipeline, job):
    job.stopping.set()
    thread = InThread(job, "INSERT INTO mart.stream_writer SELECT 'slow', 1, 'x' FROM pg_sleep(2)")
    thread.join(60)
    assert thread.failure is None
    assert rows(pipeline.mart.owner_dsn, "SELECT topic FROM mart.stream_writer") == [("slow",)]


def test_read_only_is_unavailable_and_passes(pipeline, job):
    database = pipeline.mart.name
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner:
        owner.autocommit = True
        owner.cursor().execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with pytest.raises(UnavailableError, match="PostgreSQL is read-only"), job._mart():
            pass
        with pytest.raises(UnavailableError, match="PostgreSQL is read-only"):
            connect(pipeline.mart.owner_dsn)
        owner.cursor().execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    with job._mart() as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO mart.stream_writer VALUES ('t', 1, 'x')")
    # A server that turns read-only under a session that is open.
    job._connection.set_session(readonly=True)
    thread = InThread(job, "INSERT INTO mart.stream_writer VALUES ('u', 1, 'x')")
    thread.join(60)
    assert isinstance(thread.failure, UnavailableError)
    assert "PostgreSQL is read-only" in str(thread.failure)
    assert job._connection is None  # the next try asks anew, maybe another server


def test_a_wrong_password_is_for_good(pipeline):
    with pytest.raises(StreamingError, match=r"PostgreSQL refuses: .*authentication failed"):
        connect(pipeline.mart.writer_dsn.replace("mart_writer:", "mart_writer:wrong"))
