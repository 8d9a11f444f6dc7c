"""Erasure through the whole pipeline: proved by `verify`, and still so after the whole topic was read again."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import psycopg2
import pytest

from conf.kafka import Brokers
from lake.table import existing_lake, forget
from mart.next_offsets import forget as forget_applied
from operations.erase import erase
from operations.export import export
from operations.verify import verify
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from topic.describe import describe_topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def run(pipeline: Pipeline, spark, **changes) -> None:
    settings = pipeline.settings.model_copy(update=changes)
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


def read_all_again(pipeline: Pipeline, spark) -> None:
    """`retail-mart rewind`, then a run: the lake takes a second copy of each record."""
    topic = describe_topic(Brokers(pipeline.bootstrap_servers, 30), pipeline.topic)
    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        forget_applied(cursor, topic.name)
    forget(existing_lake(pipeline.settings.lake), topic)
    run(pipeline, spark)


def named(pipeline: Pipeline, customer: str) -> list[tuple[str, int]]:
    """Where the customer still is: a place and a number of rows."""
    places = {table: f"SELECT count(*) FROM mart.{table} WHERE customer_id = %s"
              for table in ("invoice", "customer", "segment_change")}  # fmt: skip
    places["rejected_invoice"] = (
        "SELECT count(*) FROM mart.rejected_invoice WHERE position(convert_to('\"' || %s || '\"', 'UTF8') IN raw) > 0"
    )
    found = [(table, rows(pipeline.mart.owner_dsn, query, (customer,))[0][0]) for table, query in places.items()]
    in_lake = lake_rows.query(pipeline.settings.lake, f"SELECT count(*) FROM invoices WHERE customer_id = '{customer}'")
    return [(place, n) for place, n in [*found, ("lake", in_lake[0][0])] if n]


@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_erased_for_good(pipeline, spark, returns_policy):
    pipeline.settings.returns_policy = returns_policy
    events = random_events(600, customers=60, seed=31)
    shoppers = [e["customer_id"] for e in events if e["customer_id"]]
    customer = max(set(shoppers), key=shoppers.count)
    theirs = next(e for e in events if e["customer_id"] == customer)
    conflicting = {**theirs, "lines": events[0]["lines"] + theirs["lines"]}
    bad = (customer.encode(), json.dumps({**theirs, "invoice": "bad", "lines": []}).encode())
    send(pipeline.bootstrap_servers, pipeline.topic, [*encode([*events, conflicting]), bad])
    run(pipeline, spark, max_invoices_per_batch=150)
    assert verify(pipeline.settings, wait_seconds=0).equal
    assert [place for place, _ in named(pipeline, customer)] == [
        "invoice", "customer", "segment_change", "rejected_invoice", "lake",
    ]  # fmt: skip
    assert len(export(pipeline.settings, customer)["quarantined"]) == 2

    others = [{**e, "customer_id": None if e["customer_id"] == customer else e["customer_id"]} for e in events]
    expected = expected_customers(others, returns_policy)
    erased = erase(pipeline.settings, customer)
    assert erased.lake is not None
    assert (erased.mart.invoices, erased.lake.rows) == (shoppers.count(customer), shoppers.count(customer) + 1)
    assert erased.mart.quarantined == 2
    assert named(pipeline, customer) == []
    assert_mart_equals(pipeline.mart.owner_dsn, expected)
    verified = verify(pipeline.settings, wait_seconds=0)
    assert verified.equal, verified.first
    assert verified.rows["invoice"] == 600

    for _ in range(2):
        read_all_again(pipeline, spark)
        assert named(pipeline, customer) == []
        assert_mart_equals(pipeline.mart.owner_dsn, expected)
        verified = verify(pipeline.settings, wait_seconds=0)
        assert verified.equal, verified.first
    # And what they buy from now on is nobody's.
    send(pipeline.bootstrap_servers, pipeline.topic, encode([event("new", "2025-12-28", customer)]))
    run(pipeline, spark)
    assert named(pipeline, customer) == []
    assert rows(pipeline.mart.owner_dsn, "SELECT customer_id FROM mart.invoice WHERE invoice = 'new'") == [(None,)]
    verified = verify(pipeline.settings, wait_seconds=0)
    assert verified.equal, verified.first
    assert verified.rows["invoice"] == 601
    assert erase(pipeline.settings, customer).mart.invoices == 0


def test_a_lake_made_anew_takes_the_marts_list(pipeline, spark):
    send(
        pipeline.bootstrap_servers,
        pipeline.topic,
        encode([event(f"{n}", "2025-01-01", f"c{n % 3}") for n in range(30)]),
    )
    run(pipeline, spark)
    erase(pipeline.settings, "c1")
    elsewhere = {"lake_path": pipeline.settings.lake + "-new"}
    run(pipeline, spark, **elsewhere)
    assert lake_rows.query(elsewhere["lake_path"], "SELECT DISTINCT customer_id FROM invoices ORDER BY 1") == [
        ("c0",), ("c2",), (None,),
    ]  # fmt: skip
    assert verify(pipeline.settings.model_copy(update=elsewhere), wait_seconds=0).equal
