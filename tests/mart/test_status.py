"""Observe against a real broker and a real mart, as analytics_reader."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from kafka import KafkaProducer

from conf.kafka import Brokers
from mart import status as observe_module
from mart.connection import connect
from mart.next_offsets import advance, take_over
from mart.quarantine import Rejected, quarantine
from mart.reject_reason import RejectReason
from mart.status import disks, observe
from streaming.lag import Lag
from tests.builders.records import send
from tests.builders.rule_runs import record_run
from topic.describe import describe_topic, written_at

pytestmark = pytest.mark.stack


@pytest.fixture
def settings(pipeline):
    return pipeline.settings.model_copy(update={"alert_stale_seconds": 1})


def apply_up_to(pipeline, next_offsets):
    """What the job writes of a batch: next offsets, and its row."""
    topic = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic)
    with closing(connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        writer = take_over(cursor, topic, "test")
        advance(cursor, writer, next_offsets)


def record_batch(pipeline, records, rejected, seconds_ago):
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mart.batch (topic, writer_epoch, started_at, applied_at, records, invoices, duplicates,"
            " rejected) VALUES (%s, 1, now(), now() - %s * interval '1 second', %s, %s, 0, %s)",
            (pipeline.topic, seconds_ago, records, records - rejected, rejected),
        )


def test_records_that_wait_as_internal_error(pipeline, settings):
    assert observe(settings).failed == 0
    topic = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic)
    at = datetime.now(UTC)
    with closing(connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        reasons = [RejectReason.INTERNAL_ERROR, RejectReason.NOT_JSON, RejectReason.INTERNAL_ERROR]
        records = [Rejected(0, offset, at, reason, "x", b"x") for offset, reason in enumerate(reasons)]
        quarantine(cursor, topic, records)
    assert observe(settings).failed == 2
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("UPDATE mart.rejected_invoice SET outcome = 'redriven', settled_at = now()")
    assert observe(settings).failed == 0


def test_invoices_that_are_ahead_of_the_clock(pipeline, settings):
    assert observe(settings).ahead == 0
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mart.shop (returns_policy, recency_clock, time_zone, clock_limit)"
            " VALUES ('ignore', 'event', 'Asia/Jakarta', '2025-03-02')"
        )
        cursor.execute(
            "INSERT INTO mart.invoice (invoice, invoice_date, line_count, counting_lines, purchased, returned,"
            " content_sha256, kafka_partition, kafka_offset, kafka_timestamp)"
            " SELECT date, date::timestamp, 1, 1, 1, 0, sha256(''), 0, 0, now() FROM unnest(%s) AS date",
            (["2025-03-01", "2025-03-03", "2099-01-01"],),
        )
    assert observe(settings).ahead == 2


def test_lag_and_what_has_waited(pipeline, settings):
    found = observe(settings)
    assert (found.broker_problem, found.mart_problem) == (None, None)
    assert (found.lag, found.waiting) == (0, 0)
    assert (found.batches.last_at, found.batches.since_seconds, found.batches.records) == (None, None, 0)
    send(pipeline.bootstrap_servers, pipeline.topic, [(f"{n}".encode(), b"x") for n in range(20)])
    patient = settings.model_copy(update={"alert_stale_seconds": 3600})
    assert (observe(patient).lag, observe(patient).waiting) == (20, 0)  # all of them are new
    time.sleep(1.5)
    send(pipeline.bootstrap_servers, pipeline.topic, [(b"late", b"x")] * 3)
    found = observe(settings)
    assert found.lag == 23
    assert found.waiting >= 20  # the last 3 may have turned a second old meanwhile
    ends = describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic).end_offsets
    apply_up_to(pipeline, {0: ends[0]})
    assert observe(settings).lag == ends[1]
    apply_up_to(pipeline, dict(ends))
    found = observe(settings)
    assert (found.lag, found.waiting) == (0, 0)


def test_records_behind_a_transaction_that_a_producer_leaves_open(pipeline, settings):
    """They are in no lag: the job is given what is committed, and that ends where the transaction begins."""
    apply_up_to(pipeline, {0: 0, 1: 0})
    lag = Lag(
        Brokers(pipeline.bootstrap_servers),
        describe_topic(Brokers(pipeline.bootstrap_servers, 10), pipeline.topic),
        {0: 0, 1: 0},
    )
    producer = KafkaProducer(
        bootstrap_servers=pipeline.bootstrap_servers,
        transactional_id=pipeline.topic,
        enable_idempotence=True,
        acks="all",
    )
    with closing(producer), closing(lag):
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(pipeline.topic, b"x", partition=0)
        producer.flush()
        send(pipeline.bootstrap_servers, pipeline.topic, [(f"{n}".encode(), b"x") for n in range(20)])
        assert lag.held_seconds() == 0  # seen just now
        patient = settings.model_copy(update={"alert_stale_seconds": 3600})
        assert observe(patient).held == 0
        time.sleep(1.5)
        behind = observe(settings)
        assert behind.held > 1
        assert behind.lag + behind.held == 21
        assert lag.held_seconds() >= 1.5
        apply_up_to(pipeline, {0: 0})  # it moved just now: transactions come and go
        assert observe(settings).held == 0
        producer.commit_transaction()
        found = observe(settings)
        assert (found.lag, found.held, lag.held_seconds()) == (22, 0, 0)  # 21 and the transaction's mark


def test_what_was_written_at_a_moment(pipeline):
    send(pipeline.bootstrap_servers, pipeline.topic, [(f"{n}".encode(), b"x") for n in range(10)])
    brokers = Brokers(pipeline.bootstrap_servers, 10)
    topic = describe_topic(brokers, pipeline.topic)
    now = datetime.now(UTC)
    assert written_at(brokers, topic, now - timedelta(hours=1)) == {0: 0, 1: 0}
    assert written_at(brokers, topic, now + timedelta(hours=1)) == topic.end_offsets


def test_batches_of_the_window_and_the_nightly_job(pipeline, settings):
    record_batch(pipeline, 100, 40, seconds_ago=700)
    record_batch(pipeline, 10, 1, seconds_ago=500)
    record_batch(pipeline, 20, 2, seconds_ago=300)
    found = observe(settings)
    assert (found.batches.records, found.batches.rejected) == (30, 3)
    assert 300 <= found.batches.since_seconds < 400
    assert (found.nightly.status, found.nightly.published_at) == (None, None)
    assert found.nightly.waiting_hours < 1  # since the mart was made
    record_run(pipeline.mart.owner_dsn, "published", hours_ago=30)
    record_run(pipeline.mart.owner_dsn, "kept back", hours_ago=5)
    nightly = observe(settings).nightly
    assert (nightly.status, nightly.reason, f"{nightly.business_date}") == ("kept back", "no baskets", "2026-03-10")
    assert nightly.waiting_hours == pytest.approx(30, abs=0.1)
    assert nightly.run_at - nightly.published_at == pytest.approx(timedelta(hours=25), abs=timedelta(seconds=5))


def test_a_server_that_is_unavailable_is_part_of_the_answer(pipeline, settings, monkeypatch):
    monkeypatch.setattr(observe_module, "_PATIENCE_SECONDS", 1)
    nowhere = {"kafka_bootstrap_servers": "127.0.0.1:1"}
    found = observe(settings.model_copy(update=nowhere))
    assert "Kafka at 127.0.0.1:1 is unavailable" in found.broker_problem
    assert (found.lag, found.waiting, found.mart_problem) == (None, None, None)
    assert found.nightly is not None
    other = settings.model_copy(update={"kafka_topic": "no-such-topic"})
    assert "topic 'no-such-topic' does not exist" in observe(other).broker_problem

    secret = type(settings.mart_reader_dsn)
    unavailable = settings.model_copy(update={"mart_reader_dsn": secret("postgresql://reader:s3cret@127.0.0.1:1/mart")})
    found = observe(unavailable)
    assert "PostgreSQL is unavailable: " in found.mart_problem
    assert "s3cret" not in found.mart_problem
    assert (found.broker_problem, found.batches, found.nightly, found.lag) == (None, None, None, None)
    assert found.disks

    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("REVOKE SELECT ON mart.nightly_status FROM analytics_reader")
    assert "PostgreSQL refuses: permission denied" in observe(settings).mart_problem
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("DROP VIEW mart.nightly_status")
    assert "run `retail-mart migrate`" in observe(settings).mart_problem


def test_disks_of_folders_that_may_not_be_there_yet(settings, tmp_path):
    there = settings.model_copy(update={"lake_path": str(tmp_path / "not" / "yet"), "checkpoint_dir": "s3://bucket/c"})
    [lake] = disks(there)
    assert (lake.folder, lake.path) == ("lake", tmp_path)
    shown = subprocess.run(["df", "--output=pcent", tmp_path], capture_output=True, text=True).stdout
    assert 100 - lake.free_percent == pytest.approx(int(shown.split()[-1].rstrip("%")), abs=2)
