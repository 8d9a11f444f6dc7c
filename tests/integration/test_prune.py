"""Retention through the whole pipeline: `verify` stays green and every customer right, with traffic, replays and a
rewind after it. The job's path is torture.driver's: the job's own code without Spark."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from conf.kafka import Brokers
from lake.table import existing_lake, forget
from mart.next_offsets import forget as forget_applied
from operations.prune import look, prune
from operations.repair import repair
from operations.verify import verify
from stack.command import Command
from tests.builders import lake_rows
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from topic.describe import describe_topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.slow]
NEWEST = event("newest", "2025-12-31", "c1")
AGED = "UPDATE mart.rejected_invoice SET rejected_at = now() - interval '1 year'"
WRONG = {
    "UPDATE mart.customer SET frequency = frequency + 1 WHERE customer_id = '12000'": "frequency",
    "UPDATE mart.customer_carried SET purchased = purchased + 1 WHERE frequency > 0": "monetary",
    "DELETE FROM mart.invoice WHERE invoice = 'newest'": "missing in the mart",
    "DELETE FROM mart.pruned_invoice": "missing in the mart",
}


def shop(count: int, customers: int, seed: int) -> list[dict]:
    """Random invoices of two dozen dates: a lake of few files."""
    events = random_events(count, customers, seed)
    return [
        {**e, "invoice_date": f"{e['invoice_date'][:8]}{'05' if n % 2 else '20'}T10:00:00"}
        for n, e in enumerate(events)
    ]


def change(pipeline: Pipeline, statement: str) -> None:
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount > 0


def catch_up(pipeline: Pipeline) -> None:
    log = pipeline.settings.mart_home / "driver.log"
    with Command("torture.driver", "--batch", "300", log=log, environment=pipeline.environment()) as driver:
        driver.succeed(120)


def assert_right(pipeline: Pipeline, events: list[dict]) -> None:
    """Mart against oracle, mart against lake."""
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    verified = verify(pipeline.settings, wait_seconds=0)
    assert verified.equal, verified.first


# The mart alone forgets, and both do, the lake first.
@pytest.mark.parametrize(("in_mart", "in_lake"), [(100, 0), (200, 100)])
def test_verify_stays_green_and_nothing_is_counted_twice(pipeline, in_mart, in_lake):
    pipeline.settings.invoices_kept_days, pipeline.settings.lake_kept_days = in_mart, in_lake
    pipeline.settings.quarantine_kept_days = 30
    events = shop(600, customers=60, seed=81)
    first, later = [NEWEST, *events[:450]], events[450:]
    conflicting = {**first[5], "lines": first[6]["lines"] + first[7]["lines"]}
    send(pipeline.bootstrap_servers, pipeline.topic, encode([*first, conflicting]))
    catch_up(pipeline)
    assert_right(pipeline, first)
    change(pipeline, AGED)
    gone = prune(pipeline.settings, look(pipeline.settings)[0])
    assert gone.invoices == sum(e["invoice_date"][:10] < str(look(pipeline.settings)[0].invoices) for e in first) > 100
    assert (bool(gone.lake), gone.quarantined) == (bool(in_lake), 1)
    assert_right(pipeline, first)

    # New traffic, some of it of dates that are gone, and everything that was sent before once more.
    send(pipeline.bootstrap_servers, pipeline.topic, encode([*later, *first]))
    catch_up(pipeline)
    assert_right(pipeline, [*first, *later])
    assert rows(pipeline.mart.owner_dsn, "SELECT invoices, rejected FROM mart.stream_total") == [(601, 1)]
    # The whole topic again: the lake takes copies of what was pruned from it.
    topic = describe_topic(Brokers(pipeline.bootstrap_servers, 30), pipeline.topic)
    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        forget_applied(cursor, topic.name)
    forget(existing_lake(pipeline.settings.lake), topic)
    catch_up(pipeline)
    assert_right(pipeline, [*first, *later])
    bounds, old = look(pipeline.settings)
    assert prune(pipeline.settings, bounds) == old
    assert_right(pipeline, [*first, *later])
    if bounds.lake:
        assert lake_rows.query(pipeline.settings.lake, "SELECT min(business_date) FROM invoices")[0][0] >= bounds.lake


def test_verify_still_finds_what_is_wrong(pipeline):
    pipeline.settings.invoices_kept_days, pipeline.settings.lake_kept_days = 100, 200
    events = [NEWEST, *shop(300, customers=30, seed=82)]
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    catch_up(pipeline)
    prune(pipeline.settings, look(pipeline.settings)[0])
    verified = verify(pipeline.settings, wait_seconds=0)
    assert verified.equal
    assert verified.unlanded.pruned == 301 - verified.rows["invoice"]
    for statement, difference in WRONG.items():
        change(pipeline, statement)
        found = verify(pipeline.settings, wait_seconds=0, shown=1000)
        assert difference in {d.difference for d in found.first}, statement


# The lake holds what the mart has forgotten, and the mart what the lake has.
@pytest.mark.parametrize(("in_mart", "in_lake"), [(100, 0), (200, 100)])
def test_repair_keeps_what_was_pruned(pipeline, in_mart, in_lake):
    pipeline.settings.invoices_kept_days, pipeline.settings.lake_kept_days = in_mart, in_lake
    events = [NEWEST, *shop(300, customers=30, seed=83)]
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    catch_up(pipeline)
    prune(pipeline.settings, look(pipeline.settings)[0])
    for statement in list(WRONG)[::2]:
        change(pipeline, statement)
    wrong = verify(pipeline.settings, wait_seconds=0)
    assert wrong.differing["invoice"] == 1
    assert wrong.differing["customer"] >= 1
    done = repair(pipeline.settings, wait_seconds=0)
    assert (done.replaced.added["invoice"], done.replaced.removed["invoice"], done.replaced.corrected["invoice"]) == (
        1,
        0,
        0,
    )
    assert bool(done.verified.unlanded.invoices) == bool(in_lake)
    assert_right(pipeline, events)
    assert rows(pipeline.mart.owner_dsn, "SELECT invoices FROM mart.stream_total") == [(301,)]
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    catch_up(pipeline)
    assert_right(pipeline, events)
