"""The lake and the mart hold the same invoices, whatever happened on the way: on real parts."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

import stack
from batch_rules.baskets import invoices_of
from bench.lake import landed, write_lake
from conf.errors import GapError, StreamingError, TopicChangedError
from lake.table import open_lake
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.job import running
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.nightly import sales
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
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


@pytest.mark.slow
def test_landing_waits_for_a_full_batch_or_for_its_trigger(pipeline, tmp_path):
    environment = {**pipeline.environment(), "LANDING_TRIGGER_SECONDS": "3600", "MAX_INVOICES_PER_BATCH": "100"}
    events = encode(random_events(360, customers=20, seed=29))
    send(pipeline.bootstrap_servers, pipeline.topic, events[:10])
    with running(environment, tmp_path / "log", "--only", "land") as job:
        job.wait_for('"event": "landed"')  # what is there at the start lands at once
        send(pipeline.bootstrap_servers, pipeline.topic, events[10:60])
        time.sleep(4)
        assert lake_rows.counts(pipeline.settings.lake)[0] == 10
        send(pipeline.bootstrap_servers, pipeline.topic, events[60:])
        job.wait_for('"event": "landed"', times=4)
        assert job.stop() == 0
        # 3 full batches (Spark rounds each partition's share down); the rest waits for its hour.
        assert 290 <= lake_rows.counts(pipeline.settings.lake)[0] < 360
    with running(pipeline.environment(), tmp_path / "last", "--only", "land", "--available-now") as job:
        assert job.process.wait(timeout=60) == 0
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
        ended = job.process.wait(timeout=120)
        said = job.text()
    assert (ended, {3: "fenced: ", 1: "it goes on where the lake is"}.get(ended, "?") in said) in ((3, True), (1, True))
    before = lake_rows.counts(pipeline.settings.lake)[0]
    catch_up()
    assert lake_rows.counts(pipeline.settings.lake) == (before + 900, 900)
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") == [(900,)]
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(lake_rows.events(pipeline.settings.lake)))


@pytest.mark.slow
def test_signal_ends_both_queries_cleanly(pipeline, tmp_path):
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(500, customers=50, seed=30)))
    with running(pipeline.environment(), tmp_path / "log", "--warm-up-rounds", "0") as job:
        job.wait_for('"event": "applied"')
        job.wait_for('"event": "landed"')
        assert job.stop() == 0
        logged = [json.loads(text) for text in job.text().splitlines() if text.startswith("{")]
    assert logged[-1]["event"] == "stopped"
    assert logged[-1]["batches"] == {"apply": 1, "land": 1}
    [landing] = [e for e in logged if e["event"] == "landed"]
    assert (landing["rows"], landing["rejected"], landing["skipped"]) == (500, 0, 0)
    assert sum(landing["next_offsets"].values()) == 500
    assert {"parse", "write"} <= landing["ms"].keys()
    assert landing["version"] == DeltaTable(pipeline.settings.lake).version()
    assert lake_rows.counts(pipeline.settings.lake) == (500, 500)
    assert not list(Path(pipeline.settings.checkpoints).rglob("land-*"))


@pytest.mark.slow
def test_landing_that_cannot_go_on_stops_the_job_and_says_why(pipeline, tmp_path):
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(100, customers=50, seed=31)))
    write_deltalake(str(tmp_path / "other"), pa.table({"a": [1]}))
    environment = {**pipeline.environment(), "LAKE_PATH": str(tmp_path / "other")}
    with running(environment, tmp_path / "log", "--warm-up-rounds", "0") as job:
        assert job.process.wait(timeout=120) == 1
        assert "other columns than this version writes: found a int64" in job.text()
        assert "Traceback" not in job.text()
    with running(environment, tmp_path / "log2", "--warm-up-rounds", "0", "--only", "apply", "--available-now") as job:
        assert job.process.wait(timeout=120) == 0
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") == [(100,)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_landing_killed_ten_times_during_a_replay(pipeline, tmp_path):
    """kill -9 of driver and JVM at random moments; between the lives the checkpoint is deleted, replaced by an older
    one or corrupted, and the lake is compacted. The replay goes on meanwhile."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    events = random_events(11 * 600, customers=800, seed=32)
    records = encode(events)
    checkpoints, older = Path(pipeline.settings.checkpoints), tmp_path / "older"
    environment = pipeline.environment()
    landed_before = 0
    for life in range(10):
        send(pipeline.bootstrap_servers, pipeline.topic, records[life * 600 : (life + 1) * 600])
        with running(environment, tmp_path / f"life-{life}", "--only", "land", "--available-now",
                     "--max-invoices-per-batch", "40") as job:  # fmt: skip
            if life % 3 == 0:  # before or in the first batch
                job.wait_for('"event": "reading"')
                time.sleep(rng.uniform(0, 3))
            else:  # in one of the batches after it
                job.wait_for('"event": "landed"', times=rng.randint(2, 5))
                time.sleep(rng.uniform(0, 1))
            assert job.process.poll() is None, job.text()[-3000:]
        if not older.exists() and list(checkpoints.rglob("offsets/[1-9]*")):
            shutil.copytree(checkpoints, older)
        elif life % 3 == 0:
            shutil.rmtree(checkpoints, ignore_errors=True)
        elif life % 3 == 1 and older.exists():
            shutil.rmtree(checkpoints)
            shutil.copytree(older, checkpoints)
        else:
            for file in checkpoints.rglob("offsets/*"):
                file.write_text("{")
        if life == 5:
            assert command(pipeline, "compact").returncode == 0
        now = lake_rows.counts(pipeline.settings.lake)[0] if Path(pipeline.settings.lake).exists() else 0
        assert now >= landed_before
        landed_before = now
    assert older.exists()
    assert 6 * 2 * 30 <= landed_before < 10 * 600, "the kills came before or after all of the work: they prove nothing"
    send(pipeline.bootstrap_servers, pipeline.topic, records[10 * 600 :])
    with running(environment, tmp_path / "last", "--available-now", "--warm-up-rounds", "0") as job:
        assert job.process.wait(timeout=120) == 0, job.text()[-3000:]
    assert lake_rows.counts(pipeline.settings.lake) == (len(events), len(events))  # nothing lost, nothing landed twice
    expected = expected_customers(events)
    assert_mart_equals(pipeline.mart.owner_dsn, expected)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(lake_rows.events(pipeline.settings.lake)))


@pytest.mark.slow
def test_two_landing_jobs_at_once_land_each_record_once(pipeline, tmp_path):
    environment = {**pipeline.environment(), "LANDING_TRIGGER_SECONDS": "1"}
    records = encode(random_events(2000, customers=100, seed=33))
    with running(environment, tmp_path / "first", "--only", "land", "--max-invoices-per-batch", "50") as first:
        first.wait_for('"event": "reading"')
        with running(environment, tmp_path / "second", "--only", "land", "--max-invoices-per-batch", "70") as second:
            second.wait_for('"event": "reading"')
            for start in range(0, 2000, 200):
                send(pipeline.bootstrap_servers, pipeline.topic, records[start : start + 200])
                time.sleep(0.5)
            deadline = time.monotonic() + 120
            while lake_rows.counts(pipeline.settings.lake)[0] < 2000:
                assert time.monotonic() < deadline
                time.sleep(0.5)
            assert first.stop() == second.stop() == 0
            rows_of = [text.count('"event": "landed"') for text in (first.text(), second.text())]
    assert min(rows_of) > 0, "one of them did not work at all: it proves nothing"
    assert lake_rows.counts(pipeline.settings.lake) == (2000, 2000)


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
