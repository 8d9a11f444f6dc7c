"""The job as a process: stopped, fenced, cut off from its servers. Killed it is in tests/torture."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg2
import pyspark
import pytest
from deltalake import DeltaTable

from conf.settings import Settings
from jvm import java_home, spark_jars
from jvm.logs import ALWAYS_SAID, log_options
from mart.status import observe
from tests.builders import lake_rows
from tests.builders.files import ROOT
from tests.builders.job import catch_up, in_thread, running
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def applied(pipeline: Pipeline) -> int:
    [(count,)] = rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice")
    return count


def epoch(pipeline: Pipeline) -> int:
    """How often a job has taken over."""
    [(found,)] = rows(pipeline.mart.owner_dsn, "SELECT coalesce(max(epoch), 0)::int FROM mart.stream_writer")
    return found


@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGTERM, True)]
)
def test_signal_stops_it_cleanly(pipeline, tmp_path, number, to_all):
    """Also when it goes to Java as well, as from systemd: that ends first, and whatever speaks to it then fails."""
    events = random_events(500, customers=50, seed=11)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    with running(pipeline.environment(), tmp_path / "log", "--warm-up-rounds", "1") as job:
        job.wait_for('"event": "applied"')
        job.wait_for('"event": "landed"')
        if to_all:
            os.killpg(job.process.pid, number)
        assert job.stop(number) == 0
        events_logged = [json.loads(text) for text in job.text().splitlines()]  # from the first line to the last
    assert "JDK_JAVA_OPTIONS" in events_logged[0]["event"], "Java's own first word"
    assert events_logged[-1]["event"] == "stopped"
    assert events_logged[-1]["batches"] == {"apply": 1, "land": 1}
    [batch] = [e for e in events_logged if e["event"] == "applied"]
    assert (batch["invoices"], batch["duplicates"], batch["rejected"]) == (500, 0, 0)
    assert {"parse", "copy", "insert", "customers", "score", "commit"} <= batch["ms"].keys()
    assert batch["batch"].startswith("apply-")
    assert rows(pipeline.mart.owner_dsn, "SELECT id FROM mart.batch") == [(batch["mart_batch"],)]
    assert applied(pipeline) == 500
    [landing] = [e for e in events_logged if e["event"] == "landed"]
    assert (landing["rows"], landing["rejected"], landing["skipped"]) == (500, 0, 0)
    assert sum(landing["next_offsets"].values()) == 500
    assert {"parse", "write"} <= landing["ms"].keys()
    assert landing["version"] == DeltaTable(pipeline.settings.lake).version()
    assert lake_rows.counts(pipeline.settings.lake) == (500, 500)
    assert list(Path(pipeline.settings.checkpoints).glob("*/*")) == []


def test_the_end_of_sparks_java_is_told_in_words(pipeline, spark, tmp_path):
    """Out of memory, or killed by the kernel for the machine's: it ended with several hundred lines of tracebacks."""
    with running(pipeline.environment(), tmp_path / "log", "--warm-up-rounds", "0") as job:
        job.wait_for('"event": "reading"', times=2)
        [java] = [child for child in psutil.Process(job.process.pid).children() if child.name() == "java"]
        java.kill()
        send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(5, customers=5, seed=13)))
        assert job.wait() == 1
        assert "Spark's Java process has ended, exit code -9" in job.text().splitlines()[-1]
    catch_up(spark, pipeline)
    assert applied(pipeline) == 5


def test_second_job_fences_the_first(pipeline, spark, tmp_path):
    events = random_events(300, customers=50, seed=12)
    with running(pipeline.environment(), tmp_path / "first", "--warm-up-rounds", "0") as first:
        first.wait_for('"event": "reading"')
        with in_thread(spark, pipeline) as (second, stopping):
            until(lambda: epoch(pipeline) == 2 or second.done())
            send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
            assert first.wait() == 3
            events_logged = [json.loads(text) for text in first.text().splitlines()]
            assert "only one job may write" in events_logged[-1]["event"]
            assert (events_logged[-1]["level"], events_logged[-1]["exit_code"]) == ("error", 3)
            assert "\tat " not in first.text(), "Spark's stack of it"
            until(lambda: applied(pipeline) == 300 or second.done())
            stopping.set()
            second.result(timeout=60)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))


@contextmanager
def held(pipeline: Pipeline, statement: str) -> Iterator[None]:
    """A lock that somebody holds meanwhile: an analyst, a migration."""
    with (
        closing(psycopg2.connect(pipeline.mart.owner_dsn, application_name="a migration")) as other,
        other.cursor() as cursor,
    ):
        cursor.execute(statement)
        yield
        other.rollback()


def test_a_server_that_takes_nothing_now_is_waited_for_and_a_stop_ends_the_wait(pipeline, spark, tmp_path):
    """Read-only, as after a failover or where a service has run out of disk; then a table that somebody has locked."""
    events = random_events(400, customers=50, seed=15)
    records = encode(events)
    with running(pipeline.environment(), tmp_path / "first", "--warm-up-rounds", "0") as job:
        send(pipeline.bootstrap_servers, pipeline.topic, records[:100])
        until(lambda: applied(pipeline) == 100)
        make_read_only(pipeline, True)
        send(pipeline.bootstrap_servers, pipeline.topic, records[100:200])
        job.wait_for("PostgreSQL is read-only", times=2)
        assert applied(pipeline) == 100
        make_read_only(pipeline, False)
        until(lambda: applied(pipeline) == 200)
        with held(pipeline, "LOCK TABLE mart.customer"):
            send(pipeline.bootstrap_servers, pipeline.topic, records[200:])
            blocked = until(lambda: observe(pipeline.settings).blocked)  # that the log says it is in test_locks.py
            assert (blocked.relation, blocked.blockers[0].application) == ("mart.customer", "a migration")
            assert job.stop() == 0
        assert "Traceback" not in job.text()
    assert applied(pipeline) == 200
    catch_up(spark, pipeline)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))


def make_read_only(pipeline: Pipeline, read_only: bool) -> None:
    """The database, for sessions from now on; and the writer's are ended."""
    setting = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner:
        owner.autocommit = True
        owner.cursor().execute("SET default_transaction_read_only = off")
        owner.cursor().execute(f"ALTER DATABASE {pipeline.mart.name} {setting}")
    rows(
        pipeline.mart.writer_dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize(
    ("variables", "code", "sentence"),
    [
        ({"MART_DSN": "{dsn}/nowhere"}, 1, 'database "nowhere" does not exist'),
        ({"MART_DSN": "{dsn}/postgres"}, 1, "run `retail-mart migrate`"),
        ({"KAFKA_TOPIC": "no-such-topic"}, 1, "topic 'no-such-topic' does not exist"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 4, "Kafka at 127.0.0.1:1 is unavailable"),
        ({"MART_DSN": "garbage"}, 1, "MART_DSN: "),
        ({"METRICS_PORT": "x"}, 1, "METRICS_PORT: "),
    ],
    ids=["no database", "no tables", "no topic", "no Kafka", "no DSN", "no port"],
)
def test_what_it_cannot_run_with_is_told_before_spark_is_started(pipeline, tmp_path, variables, code, sentence):
    server = pipeline.mart.writer_dsn.removesuffix(f"/{pipeline.mart.name}")
    patience = {"OUTAGE_PATIENCE_SECONDS": "1", "KAFKA_TIMEOUT_SECONDS": "5"}
    given = {name: value.format(dsn=server) for name, value in variables.items()}
    with running({**pipeline.environment(), **patience, **given}, tmp_path / "log") as job:
        assert job.wait() == code
        events_logged = [json.loads(text) for text in job.text().splitlines()]
    assert sentence in events_logged[-1]["event"]
    assert {one["event"] for one in events_logged[:-1]} <= {"waiting"}, "Java has a first word, too"


def test_runs_under_spark_submit(pipeline, tmp_path):
    events = random_events(300, customers=50, seed=14)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    submit = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", "local[1]"]
    command = ["cli/__main__.py", "run", "--available-now", "--warm-up-rounds", "0"]
    environment = {
        **pipeline.environment(),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "JAVA_HOME": str(java_home()),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }
    without = subprocess.run([*submit, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert without.returncode == 1
    assert 'add --jars "$(retail-mart jvm spark-jars)"' in without.stdout + without.stderr  # spark-submit merges them
    jars = ["--jars", ",".join(map(str, spark_jars()))]
    logs = ["--driver-java-options", shlex.join(log_options(Settings(log_format="json")))]
    environment["LOG_FORMAT"] = "json"
    done = subprocess.run([*submit, *jars, *logs, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [
        text
        for text in (done.stdout + done.stderr).splitlines()  # but Java's first words: nothing of ours starts it
        if not text.startswith("NOTE: Picked up ") and not ALWAYS_SAID.fullmatch(text)
    ]
    assert all(json.loads(text)["event"] for text in said)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
