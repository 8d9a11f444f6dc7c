"""Repair beside the running job: it needs no restart, and everything equals the oracle, whatever came in between."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import psycopg2
import pytest

from operations.verify import verify
from streaming.main import RunOptions, stream
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]
COLUMNS = (
    "invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256, kafka_partition,"
    " kafka_offset, kafka_timestamp"
)
BOUGHT = "SELECT min(invoice) FROM mart.invoice WHERE counting_lines > 0"
SOMEBODY = "SELECT max(customer_id) FROM mart.customer WHERE frequency > 0"
WRONGS = (
    f"UPDATE mart.customer SET monetary = monetary + 0.01 WHERE customer_id = ({SOMEBODY})",
    f"DELETE FROM mart.invoice WHERE invoice = ({BOUGHT})",
    f"INSERT INTO mart.invoice SELECT 'made up', {COLUMNS} FROM mart.invoice WHERE invoice = ({BOUGHT})",
    f"UPDATE mart.customer SET f = f % 5 + 1 WHERE customer_id = ({SOMEBODY})",
    "UPDATE mart.quintile_cut SET f_value = f_value + 1 WHERE quintile = 3",
)
APPLIED = "SELECT coalesce(sum(next_offset), 0)::int FROM mart.next_offset"


def wait_until_applied(pipeline: Pipeline, invoices: int) -> None:
    until(lambda: rows(pipeline.mart.owner_dsn, APPLIED) == [(invoices,)], seconds=180)


def test_repair_beside_the_running_job(pipeline: Pipeline, spark):
    settings = pipeline.settings.model_copy(update={"landing_trigger_seconds": 1})
    events = random_events(1200, customers=90, seed=81)
    for number, one in enumerate(events):  # of 12 days, so that a landing writes few files
        one["invoice_date"] = f"2025-03-{number * 7 % 12 + 1:02}T10:00:00"
    stopping, failures = threading.Event(), []

    def job() -> None:
        try:
            stream(spark, settings, RunOptions(warm_up_rounds=0), stopping)
        except BaseException as failure:
            failures.append(failure)

    running = threading.Thread(target=job)
    running.start()
    try:
        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[:600]))
        wait_until_applied(pipeline, 600)
        for wrong in WRONGS:
            with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
                cursor.execute(wrong)
                assert cursor.rowcount == 1
        # A batch with the spoilt cuts and scores comes in between.
        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[600:700]))
        wait_until_applied(pipeline, 700)
        found = verify(settings, wait_seconds=180)
        assert found.differing["invoice"] == 2
        assert found.differing["customer"] >= 1

        repair = subprocess.Popen(
            [sys.executable, "-m", "cli", "verify", "--repair"],
            env={**os.environ, **pipeline.environment(), "LAKE_PATH": settings.lake},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in range(700, 1000, 50):  # traffic meanwhile
            send(pipeline.bootstrap_servers, pipeline.topic, encode(events[first : first + 50]))
            time.sleep(0.3)
        told, complaints = repair.communicate(timeout=120)
        assert repair.returncode == 0, complaints
        assert "equal now: every row, every column, to the cent" in told

        send(pipeline.bootstrap_servers, pipeline.topic, encode([*events[1000:], *events[:100]]))
        wait_until_applied(pipeline, 1300)
        assert running.is_alive(), failures
        assert verify(settings, wait_seconds=180).equal
    finally:
        stopping.set()
        running.join(60)
    assert not failures
    assert rows(pipeline.mart.owner_dsn, "SELECT epoch FROM mart.stream_writer") == [(1,)]
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    assert rows(pipeline.mart.reader_dsn, "SELECT invoices FROM mart.stream_status") == [(1200,)]
