"""Scores kept batch by batch on the whole pipeline: right after every batch, and said to be wrong when they are."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from mart.connection import connect
from mart.score import check_scores
from operations.repair import repair
from producer.csv_invoices import csv_files, read_invoices
from producer.event import event, record_key
from streaming.main import RunOptions, stream
from streaming.metrics import Metrics
from tests.builders.files import UCI, needs_uci
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]


def catch_up(spark, pipeline: Pipeline, options: RunOptions, **changes) -> int:
    return stream(spark, pipeline.settings.model_copy(update=changes), options, threading.Event())["apply"]


@needs_uci
@pytest.mark.slow
@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_scores_equal_the_oracle_after_every_batch_of_real_invoices(spark, pipeline, monkeypatch, returns_policy):
    """The first days of UCI Online Retail, in batches of 100 invoices."""
    invoices = [invoice for file in csv_files([UCI])[:10] for invoice in read_invoices(file)[0]]
    send(pipeline.bootstrap_servers, pipeline.topic, [(record_key(i), event(i)) for i in invoices])
    events = {i.number: json.loads(event(i)) for i in invoices}
    compared = []

    def compare(applied, writer, phases, metrics) -> None:
        """In place of the log event of a batch: the mart against the oracle on the invoices applied so far."""
        so_far = [number for (number,) in rows(pipeline.mart.owner_dsn, "SELECT invoice FROM mart.invoice")]
        expected = expected_customers([events[number] for number in so_far], returns_policy)
        assert_mart_equals(pipeline.mart.owner_dsn, expected)
        compared.append(len(expected))

    monkeypatch.setattr("streaming.apply_job.report_applied", compare)
    options = RunOptions(available_now=True, check_every=7)
    batches = catch_up(spark, pipeline, options, max_invoices_per_batch=100, returns_policy=returns_policy)
    assert batches == len(compared) > 10
    assert compared[-1] > 500
    checks = rows(pipeline.mart.owner_dsn, "SELECT wrong_scores, wrong_cuts, wrong_totals FROM mart.score_check")
    assert checks == [(0, 0, 0)] * (batches // 7)


def test_self_check_of_the_running_job_tells_of_a_wrong_score_and_leaves_it_to_a_repair(spark, pipeline):
    events = random_events(400, customers=60, seed=11)
    records = encode(events)
    send(pipeline.bootstrap_servers, pipeline.topic, records[:200])
    catch_up(spark, pipeline, RunOptions(available_now=True, check_every=0))
    assert rows(pipeline.mart.owner_dsn, "SELECT FROM mart.score_check") == []
    rows(
        pipeline.mart.owner_dsn,
        "WITH wrong AS (UPDATE mart.customer SET m = 6 - m WHERE m <> 3 AND frequency > 0 RETURNING 1)"
        " SELECT count(*) FROM wrong",
    )
    send(pipeline.bootstrap_servers, pipeline.topic, records[200:])
    metrics, options = Metrics(pipeline.settings), RunOptions(available_now=True, check_every=1)
    with capture_logs() as lines:
        settings = pipeline.settings.model_copy(update={"max_invoices_per_batch": 20})
        batches = stream(spark, settings, options, threading.Event(), metrics)["apply"]
    wrong = rows(
        pipeline.mart.owner_dsn, "SELECT wrong_scores + wrong_cuts + wrong_totals FROM mart.score_check ORDER BY id"
    )
    assert len(wrong) == batches
    assert wrong[0][0] > 0
    assert metrics.registry.get_sample_value("mart_scores_wrong") == wrong[-1][0]
    said = [said["event"] for said in lines if said["log_level"] == "error"]
    assert said[0] == "scores are wrong: run `retail-mart verify --repair`"
    repair(pipeline.settings, wait_seconds=60)
    assert metrics.registry.get_sample_value("mart_scores_wrong") == 0
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    with closing(connect(pipeline.mart.writer_dsn)) as connection:
        assert check_scores(connection).is_right
