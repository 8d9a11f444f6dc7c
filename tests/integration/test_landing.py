"""The lake and the mart hold the same invoices, whatever happened on the way: on real parts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from pyspark.sql.streaming import StreamingQueryListener

import stack
from batch_rules.baskets import invoices_of
from bench.lake import landed, write_lake
from conf.errors import GapError, StreamingError, TopicChangedError
from lake.table import lake_exists, open_lake
from streaming.land_job import LandJob
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.job import in_thread, running
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.nightly import sales
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from tests.builders.waiting import until
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]

BOTH, LAND = RunOptions(available_now=True), RunOptions(available_now=True, only="land")


@pytest.fixture
def catch_up(spark, pipeline: Pipeline):
    """Apply and land all that is on the topic now; returns the number of batches of each query."""

    def run(options: RunOptions = BOTH, **changes) -> dict[str, int]:
        return stream(spark, pipeline.settings.model_copy(update=changes), options, threading.Event())

    return run


def command(pipeline: Pipeline, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env={**pipeline.environment(), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_lake_read_without_spark_equals_the_mart_in_count_and_sum(pipeline, catch_up):
    events = random_events(3000, customers=400, seed=20)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    batches = catch_up(max_invoices_per_batch=700)
    assert min(batches["apply"], batches["land"]) > 3
    lake, mart = pipeline.settings.lake, pipeline.mart.owner_dsn
    assert lake_rows.counts(lake) == (3000, 3000)
    in_lake = lake_rows.query(
        lake,
        """
        SELECT count(DISTINCT invoice), sum(len(lines)),
               sum(list_sum(list_transform(
                   list_filter(lines, lambda line:
                       line.quantity > 0 AND line.price > 0 AND invoice NOT LIKE 'C%' AND line.description <> ''
                       AND line.stock_code NOT IN ('ONGKIR', 'DISCOUNT', 'POST')),
                   lambda line: line.quantity * line.price)))
        FROM invoices
        """,
    )
    assert in_lake == rows(mart, "SELECT count(*), sum(line_count), sum(purchased) FROM mart.invoice")
    assert_mart_equals(mart, expected_customers(lake_rows.events(lake)))
    assert lake_rows.query(lake, 'SELECT invoice, content_sha256, "partition", "offset" FROM invoices ORDER BY 1') == (
        rows(
            mart,
            "SELECT invoice, encode(content_sha256, 'hex'), kafka_partition, kafka_offset FROM mart.invoice ORDER BY 1",
        )
    )


def test_only_valid_invoices_land_and_the_days_are_the_shops(pipeline, catch_up):
    good = [event(str(n), f"2025-01-0{1 + n % 2}T23:59:59", f"c{n % 3}") for n in range(6)]
    bad = [(b"k", b"not json"), (b"k", None), (b"c1", json.dumps({**good[0], "version": 9}).encode())]
    send(pipeline.bootstrap_servers, pipeline.topic, [bad[0], *encode(good), *bad[1:]])
    catch_up()
    assert lake_rows.query(
        pipeline.settings.lake, "SELECT business_date, count(*) FROM invoices GROUP BY 1 ORDER BY 1"
    ) == [
        (date(2025, 1, 1), 3),
        (date(2025, 1, 2), 3),
    ]
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.rejected_invoice") == [(3,)]


def test_each_query_runs_alone(pipeline, catch_up):
    events = random_events(100, customers=20, seed=21)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    assert catch_up(RunOptions(available_now=True, only="apply")) == {"apply": 1}
    assert not Path(pipeline.settings.lake).exists()
    no_mart = {"mart_dsn": None, "mart_owner_dsn": None, "mart_reader_dsn": None}
    assert catch_up(LAND, **no_mart) == {"land": 1}
    assert lake_rows.counts(pipeline.settings.lake) == (100, 100)


def test_an_invoice_sent_twice_lands_twice_and_its_readers_count_it_once(pipeline, catch_up, spark):
    events = random_events(500, customers=80, seed=22)
    records = encode(events)
    send(pipeline.bootstrap_servers, pipeline.topic, records)
    catch_up()
    send(pipeline.bootstrap_servers, pipeline.topic, random.Random(23).sample(records, 100))
    catch_up()
    assert lake_rows.counts(pipeline.settings.lake) == (600, 500)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(lake_rows.events(pipeline.settings.lake)))
    lake = spark.read.format("delta").load(pipeline.settings.lake)
    assert invoices_of(lake, date(2024, 12, 31), date(2025, 12, 31)).count() == 500  # as the nightly rules read it


def test_the_benchmarks_lake_and_the_landed_one_are_the_same_table(spark, tmp_path):
    path = str(tmp_path / "lake")
    write_lake(spark, landed(sales("A B", "A C")), path)
    open_lake(path)  # raises if it had other columns
    assert lake_rows.counts(path) == (2, 2)


def test_rewind_lands_a_second_copy_of_each_invoice(pipeline, catch_up):
    events = random_events(200, customers=40, seed=24)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    catch_up()
    done = command(pipeline, "rewind", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from its first record again") == 2
    catch_up()
    assert lake_rows.counts(pipeline.settings.lake) == (400, 200)
    twice = 'SELECT DISTINCT n FROM (SELECT count(*) n FROM invoices GROUP BY topic, "partition", "offset")'
    assert lake_rows.query(pipeline.settings.lake, twice) == [(2,)]  # copies of the very same records
    assert rows(pipeline.mart.owner_dsn, "SELECT sum(duplicates) FROM mart.batch") == [(200,)]
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(lake_rows.events(pipeline.settings.lake)))
    assert command(pipeline, "rewind", "--only", "apply", "--yes").stdout.count("landed") == 0
    assert command(pipeline, "rewind", "--only", "land", "--yes").stdout.count("applied") == 0


def test_recreated_topic_is_an_error_of_landing_too(pipeline, catch_up, servers):
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(10, customers=5, seed=25)))
    catch_up(LAND)
    stack.delete_topic(pipeline.bootstrap_servers, pipeline.topic)
    with pytest.raises(StreamingError, match=f"topic '{pipeline.topic}' does not exist"):
        catch_up(LAND)
    stack.ensure_topic(pipeline.bootstrap_servers, pipeline.topic, 2)
    more = [{**e, "invoice": f"new-{e['invoice']}"} for e in random_events(20, customers=5, seed=26)]
    send(pipeline.bootstrap_servers, pipeline.topic, encode(more))
    with pytest.raises(TopicChangedError, match=r"the lake's next offsets are of .* `retail-mart rewind`"):
        catch_up(LAND)
    assert lake_rows.counts(pipeline.settings.lake) == (10, 10)
    assert command(pipeline, "rewind", "--only", "land", "--yes").returncode == 0
    catch_up(LAND)
    assert lake_rows.counts(pipeline.settings.lake) == (30, 30)


def test_records_that_the_broker_deleted_are_an_error_unless_accepted(pipeline, catch_up):
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(50, customers=9, seed=27)))
    catch_up(LAND)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(80, customers=9, seed=28)))
    admin = KafkaAdminClient(bootstrap_servers=pipeline.bootstrap_servers)
    [(end0,)] = lake_rows.query(pipeline.settings.lake, 'SELECT max("offset") + 1 FROM invoices WHERE "partition" = 0')
    admin.delete_records({TopicPartition(pipeline.topic, 0): end0 + 3})
    admin.close()
    with pytest.raises(GapError, match=r"\(3 records\) were deleted by the broker before the lake had them"):
        catch_up(LAND)
    catch_up(RunOptions(available_now=True, only="land", accept_gap=True))
    assert lake_rows.counts(pipeline.settings.lake)[0] == 50 + 80 - 3


def landed_rows(pipeline: Pipeline) -> int:
    return lake_rows.counts(pipeline.settings.lake)[0] if lake_exists(pipeline.settings.lake) else 0


class Looked(StreamingQueryListener):
    """Counts how often the query has looked at the topic and left it."""

    def __init__(self) -> None:
        self.times = 0

    def onQueryIdle(self, event) -> None:  # noqa: N802  Spark's name
        self.times += 1

    def onQueryStarted(self, event) -> None:  # noqa: N802
        pass

    def onQueryProgress(self, event) -> None:  # noqa: N802
        pass

    def onQueryTerminated(self, event) -> None:  # noqa: N802
        pass


@pytest.fixture
def looked(spark) -> Iterator[Looked]:
    interval = "spark.sql.streaming.noDataProgressEventInterval"
    listener, before = Looked(), spark.conf.get(interval)
    spark.conf.set(interval, "10")
    spark.streams.addListener(listener)
    yield listener
    spark.streams.removeListener(listener)
    spark.conf.set(interval, before)


def test_landing_waits_for_a_full_batch_or_for_its_trigger(pipeline, spark, looked, catch_up):
    events = encode(random_events(360, customers=20, seed=29))
    patient = {"landing_trigger_seconds": 3600, "max_invoices_per_batch": 100}
    send(pipeline.bootstrap_servers, pipeline.topic, events[:10])
    with in_thread(spark, pipeline, "land", **patient) as (job, stopping):
        until(lambda: landed_rows(pipeline) == 10 or job.done())  # what is there lands
        send(pipeline.bootstrap_servers, pipeline.topic, events[10:60])
        before = looked.times
        until(lambda: looked.times >= before + 2 or job.done())  # the second one began after all was sent
        assert landed_rows(pipeline) == 10
        send(pipeline.bootstrap_servers, pipeline.topic, events[60:])
        until(lambda: landed_rows(pipeline) >= 290 or job.done())
        before = looked.times
        until(lambda: looked.times >= before + 2 or job.done())
        stopping.set()
        assert job.result(timeout=60) == {"land": 4}
    # 3 full batches (Spark rounds each partition's share down); the rest waits for its hour.
    assert 290 <= landed_rows(pipeline) < 360
    catch_up(LAND)
    assert lake_rows.counts(pipeline.settings.lake) == (360, 360)


@pytest.mark.slow
def test_rewind_beside_a_running_job_and_traffic(pipeline, catch_up, tmp_path):
    """The job ends at its next batch, fenced or by its landing; mart and lake are both read from the first record."""
    records = encode(random_events(900, customers=80, seed=34))
    send(pipeline.bootstrap_servers, pipeline.topic, records[:300])
    environment = {**pipeline.environment(), "LANDING_TRIGGER_SECONDS": "1"}
    with running(environment, tmp_path / "log", "--warm-up-rounds", "0") as job:
        job.wait_for('"event": "applied"')
        job.wait_for('"event": "landed"')
        send(pipeline.bootstrap_servers, pipeline.topic, records[300:600])
        done = command(pipeline, "rewind", "--yes")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("from its first record again") == 2
        send(pipeline.bootstrap_servers, pipeline.topic, records[600:])
        ended = job.wait()
        said = job.text()
    assert (ended, {3: "fenced: ", 1: "it goes on where the lake is"}.get(ended, "?") in said) in ((3, True), (1, True))
    before = lake_rows.counts(pipeline.settings.lake)[0]
    catch_up()
    assert lake_rows.counts(pipeline.settings.lake) == (before + 900, 900)
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") == [(900,)]
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(lake_rows.events(pipeline.settings.lake)))


@pytest.mark.slow
def test_landing_that_cannot_go_on_stops_the_job_and_says_why(pipeline, catch_up, tmp_path):
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(100, customers=50, seed=31)))
    write_deltalake(str(tmp_path / "other"), pa.table({"a": [1]}))
    environment = {**pipeline.environment(), "LAKE_PATH": str(tmp_path / "other")}
    with running(environment, tmp_path / "log", "--warm-up-rounds", "0") as job:
        assert job.wait() == 1
        assert "other columns than this version writes: found a int64" in job.text()
        assert "Traceback" not in job.text()
    catch_up(RunOptions(available_now=True, only="apply"))
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") == [(100,)]


def test_two_landing_jobs_at_once_land_each_record_once(pipeline, spark, monkeypatch):
    monkeypatch.setattr(LandJob, "trigger_seconds", 0)  # neither ever rests
    records = encode(random_events(1000, customers=100, seed=33))
    sessions = (spark, spark.newSession())  # the query's name is taken once in each
    with (
        in_thread(sessions[0], pipeline, "land", max_invoices_per_batch=50) as (first, stop_first),
        in_thread(sessions[1], pipeline, "land", max_invoices_per_batch=70) as (second, stop_second),
    ):
        until(lambda: all(session.streams.active for session in sessions) or first.done() or second.done())
        for sent in range(200, 1001, 200):
            send(pipeline.bootstrap_servers, pipeline.topic, records[sent - 200 : sent])
            begun = sent - 200
            until(lambda begun=begun: landed_rows(pipeline) > begun or first.done() or second.done())
        until(lambda: landed_rows(pipeline) >= 1000 or first.done() or second.done())
        stop_first.set()
        stop_second.set()
        batches = [job.result(timeout=60)["land"] for job in (first, second)]
    assert min(batches) > 0, "one of them did not work at all: it proves nothing"
    assert lake_rows.counts(pipeline.settings.lake) == (1000, 1000)


def test_compact_as_a_command(pipeline, catch_up):
    nothing = command(pipeline, "compact")
    assert nothing.returncode == 1
    assert "no lake at" in nothing.stderr
    assert "Traceback" not in nothing.stderr
    send(pipeline.bootstrap_servers, pipeline.topic, encode([event(str(n), "2025-01-01", "c") for n in range(40)]))
    catch_up(LAND, max_invoices_per_batch=10)
    done = command(pipeline, "compact")
    assert done.returncode == 0, done.stderr
    assert "4 files merged; 0 files" in done.stdout
    assert lake_rows.counts(pipeline.settings.lake) == (40, 40)
    assert len(list(Path(pipeline.settings.lake).glob("business_date=*/*.parquet"))) == 5
