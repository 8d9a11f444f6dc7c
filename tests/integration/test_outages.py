"""Servers that die, and connections that break, under a running job: it waits, goes on, and counts everything once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr

import stack
from mart.status import observe
from tests.builders import lake_rows
from tests.builders.job import in_thread
from tests.builders.mart_rows import assert_mart_equals, locked, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from tests.builders.wire import wired
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]


def applied(pipeline: Pipeline) -> int:
    [(records,)] = rows(pipeline.mart.owner_dsn, "SELECT coalesce(sum(records), 0)::int FROM mart.batch")
    return records


@pytest.mark.parametrize("lost", ["commit", "answer"])
def test_a_connection_that_breaks_in_the_commit_is_applied_once_whatever_became_of_it(pipeline, spark, lost):
    """Before PostgreSQL hears of it, or after it has done it: who has sent it cannot tell."""
    events = random_events(200, customers=30, seed=70)
    with (
        wired(pipeline.mart.writer_dsn) as wire,
        in_thread(spark, pipeline, "apply", mart_dsn=SecretStr(wire.dsn)) as (job, stopping),
    ):
        wire.after = b"INSERT INTO mart.batch "
        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[:50]))
        until(lambda: applied(pipeline) == 50 or job.done())
        wire.loses.append(lost)
        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[50:]))
        until(lambda: applied(pipeline) >= 200 or job.done())
        assert wire.loses == []
        stopping.set()
        job.result(timeout=60)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    counted = "SELECT sum(records)::int, sum(invoices)::int, sum(duplicates)::int FROM mart.batch"
    assert rows(pipeline.mart.owner_dsn, counted) == [(200, 200, 0)]


def test_a_session_that_is_ended_in_its_transaction_is_survived(pipeline, spark):
    """By an administrator, or a failover: here while it waits for a table that somebody has locked."""
    events = random_events(200, customers=30, seed=72)
    job_waits = (
        "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE NOT granted AND datname = current_database()"
    )
    with in_thread(spark, pipeline, "apply") as (job, stopping):
        send(pipeline.bootstrap_servers, pipeline.topic, encode(events[:50]))
        until(lambda: applied(pipeline) == 50 or job.done())
        with locked(pipeline.mart.owner_dsn, "mart.invoice") as other:
            send(pipeline.bootstrap_servers, pipeline.topic, encode(events[50:]))
            [(pid,)] = until(lambda: rows(pipeline.mart.owner_dsn, job_waits))
            # The owner may not end the writer's sessions, the writer may.
            assert rows(pipeline.mart.writer_dsn, "SELECT pg_terminate_backend(%s, 10000)", (pid,)) == [(True,)]
            [(again,)] = until(lambda: rows(pipeline.mart.owner_dsn, job_waits))
            assert again != pid
            other.rollback()
        until(lambda: applied(pipeline) == 200 or job.done())
        stopping.set()
        job.result(timeout=60)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))


@pytest.mark.slow
def test_servers_that_die_under_a_running_job_are_waited_for(pipeline, spark, request, stack_home):
    """kill -9 of PostgreSQL, then of Kafka, each started again; then both at once."""
    if request.config.getoption("--stack") != "embedded":
        pytest.skip("only the embedded servers are the test's to kill")
    events = random_events(400, customers=60, seed=71)
    records = encode(events)

    def go_on(job, count: int) -> None:
        send(pipeline.bootstrap_servers, pipeline.topic, records[count - 100 : count])
        until(lambda: applied(pipeline) == count or job.done(), seconds=120)

    with in_thread(spark, pipeline) as (job, stopping):
        go_on(job, 100)
        deaths: list[Callable] = [stack.kill_database, stack.kill_broker]
        for count, dying in ((200, deaths[:1]), (300, deaths[1:]), (400, deaths)):
            for kill in dying:
                kill(stack_home)
            stack.up(stack_home)
            go_on(job, count)
        until(lambda: lake_rows.counts(pipeline.settings.lake) == (400, 400) or job.done(), seconds=120)
        stopping.set()
        job.result(timeout=60)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    assert observe(pipeline.settings).lag == 0
