"""Verify: equal where the mart is right, and each kind of wrong is found, told and explained."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing

import psycopg2
import pytest

from conf.errors import StreamingError
from operations.verify import verify
from streaming.main import RunOptions, stream
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send

pytestmark = [pytest.mark.stack, pytest.mark.spark]


@pytest.fixture
def filled(pipeline: Pipeline, spark) -> Pipeline:
    """A pipeline that has applied and landed 800 invoices, 100 of them twice, and one that conflicts."""
    events = random_events(800, customers=120, seed=21)
    conflicting = {**event(events[5]["invoice"], "2025-06-01", events[5]["customer_id"]), "lines": events[6]["lines"]}
    send(pipeline.bootstrap_servers, pipeline.topic, encode([*events, *events[:100], conflicting]))
    stream(spark, pipeline.settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
    return pipeline


def spoil(pipeline: Pipeline, statement: str) -> None:
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount == 1, "this must spoil one row"


@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_a_right_mart_is_equal(pipeline, spark, returns_policy):
    settings = pipeline.settings.model_copy(update={"returns_policy": returns_policy})
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(500, customers=60, seed=22)))
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
    verified = verify(settings, wait_seconds=0)
    assert verified.equal
    assert verified.rows["invoice"] == 500
    assert verified.rows["customer"] > 30


def test_each_kind_of_wrong_is_found(filled):
    assert verify(filled.settings, wait_seconds=0).equal
    one = "SELECT customer_id FROM mart.customer WHERE frequency > 1 ORDER BY customer_id LIMIT 1"
    spoil(filled, f"UPDATE mart.customer SET monetary = monetary + 0.01 WHERE customer_id = ({one})")
    verified = verify(filled.settings, wait_seconds=0)
    assert {k: n for k, n in verified.differing.items() if n} == {"customer": 1}
    [found] = [d for d in verified.first if d.difference == "monetary"]
    assert float(found.mart) - float(found.lake) == pytest.approx(0.01)

    spoil(filled, f"UPDATE mart.customer SET monetary = monetary - 0.01 WHERE customer_id = ({one})")
    assert verify(filled.settings, wait_seconds=0).equal
    for column, wrong in (("r", "r % 5 + 1"), ("f", "f % 5 + 1"), ("m", "m % 5 + 1"), ("segment", "'Odd'")):
        spoil(filled, f"UPDATE mart.customer SET {column} = {wrong} WHERE customer_id = ({one})")
        assert column in {d.difference for d in verify(filled.settings, wait_seconds=0).first}


def test_lost_and_made_up_invoices_are_found_and_explain_their_customer(filled):
    bought = "customer_id IS NOT NULL AND counting_lines > 0 ORDER BY invoice"
    lost = f"(SELECT invoice FROM mart.invoice WHERE {bought} LIMIT 1)"
    with closing(psycopg2.connect(filled.mart.owner_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT invoice, customer_id FROM mart.invoice WHERE {bought} LIMIT 1")
        invoice, customer = cursor.fetchone()
    spoil(filled, f"UPDATE mart.customer SET frequency = frequency + 1 WHERE customer_id = '{customer}'")
    spoil(filled, f"DELETE FROM mart.invoice WHERE invoice = {lost}")
    verified = verify(filled.settings, wait_seconds=0)
    assert {k: n for k, n in verified.differing.items() if n} == {"invoice": 1, "customer": 1}
    assert (verified.first[0].key, verified.first[0].difference) == (invoice, "missing in the mart")
    [explained] = [d for d in verified.first if d.table == "customer"]
    assert (explained.key, explained.difference, explained.invoices) == (customer, "frequency", (invoice,))

    made_up = (
        "INSERT INTO mart.invoice SELECT 'made-up', invoice_date, customer_id, line_count, counting_lines, purchased,"
    )
    more = " returned, content_sha256, kafka_partition, 0, kafka_timestamp FROM mart.invoice LIMIT 1"
    spoil(filled, made_up + more)
    found = [d for d in verify(filled.settings, wait_seconds=0).first if d.key == "made-up"]
    assert [d.difference for d in found] == ["not in the lake"]


def test_lake_that_is_behind_is_a_clear_error(filled, spark):
    send(filled.bootstrap_servers, filled.topic, encode([event("new", "2025-01-01", "c")]))
    stream(spark, filled.settings, RunOptions(available_now=True, warm_up_rounds=0, only="apply"), threading.Event())
    with pytest.raises(StreamingError, match=r"is 1 record behind the mart after 0 s.*--only land --available-now"):
        verify(filled.settings, wait_seconds=0)


def test_records_past_the_marts_next_offsets_do_not_count(filled, spark):
    """Traffic that is landed and not yet applied: the mart is still right."""
    send(filled.bootstrap_servers, filled.topic, encode([event("new", "2025-01-01", "c")]))
    stream(spark, filled.settings, RunOptions(available_now=True, warm_up_rounds=0, only="land"), threading.Event())
    assert verify(filled.settings, wait_seconds=0).equal


def test_command_and_its_exit_codes(filled):
    environment = {**os.environ, **filled.environment(), "LAKE_PATH": filled.settings.lake}

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", "verify", "--wait", "0"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    assert "equal: every row, every column, to the cent" in done.stdout
    spoil(
        filled,
        "UPDATE mart.invoice SET purchased = purchased + 1 WHERE invoice = (SELECT max(invoice) FROM mart.invoice)",
    )
    done = run()
    assert done.returncode == 5
    assert "NOT equal" in done.stdout
    environment["LAKE_PATH"] = filled.settings.lake + "-none"
    done = run()
    assert done.returncode == 1
    assert "no lake at" in done.stderr
