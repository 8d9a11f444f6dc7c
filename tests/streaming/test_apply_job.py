"""ApplyJob on real servers: how it takes over a mart, and how it reads records once more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from unittest.mock import MagicMock

import psycopg2
import pytest

from streaming.apply_job import ApplyJob, _raw_values
from streaming.job import RunOptions
from streaming.metrics import Metrics
from tests.builders.mart_rows import rows
from tests.builders.pipeline import Pipeline
from tests.builders.waiting import until


@contextmanager
def job(pipeline: Pipeline, returns_policy: str) -> Iterator[ApplyJob]:
    settings = pipeline.settings.model_copy(update={"returns_policy": returns_policy})
    made = ApplyJob(settings, RunOptions(), threading.Event(), Metrics(settings))
    yield made
    made.close()


def start(job: ApplyJob) -> None:
    with job.prepare(MagicMock()):  # of Spark it would need the reading of the topic, at its end
        pass


@pytest.mark.stack
def test_a_job_that_comes_with_other_rules_has_taken_over_before_it_writes_them(pipeline):
    """Else a batch of the older job could commit in between, after the rules and before the fence."""
    shop = "SELECT returns_policy FROM mart.shop"
    with job(pipeline, "net") as older:
        start(older)
    with (
        job(pipeline, "ignore") as newer,
        ThreadPoolExecutor(1) as pool,
        closing(psycopg2.connect(pipeline.mart.owner_dsn)) as other,
    ):
        other.cursor().execute(f"{shop} FOR UPDATE")
        taking_over = pool.submit(start, newer)
        until(lambda: rows(pipeline.mart.owner_dsn, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        # It has not written its rules yet, and no batch of the older one begins any more.
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            rows(pipeline.mart.owner_dsn, "SELECT epoch FROM mart.stream_writer FOR UPDATE NOWAIT")
        assert rows(pipeline.mart.owner_dsn, shop) == [("net",)]
        other.rollback()
        taking_over.result(60)
    assert rows(pipeline.mart.owner_dsn, shop) == [("ignore",)]
    assert rows(pipeline.mart.owner_dsn, "SELECT epoch FROM mart.stream_writer") == [(2,)]


@pytest.mark.spark
def test_values_of_many_records_are_fetched_by_a_join(spark):
    """Spark plans a condition that names 40,000 records for more than a minute, within the open transaction."""
    written = [(n % 2, n // 2, None if n == 6 else b"value %d" % n) for n in range(2000)]
    records = spark.createDataFrame(written, "partition int, offset long, value binary")
    asked = [(partition, offset) for partition, offset, _ in written if offset % 5 < 2]
    found = _raw_values(records, asked)
    assert found == {(partition, offset): value for partition, offset, value in written if offset % 5 < 2}
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    executed = spark._jsparkSession.sharedState().statusStore().executionsList()
    plan = executed.last().physicalPlanDescription()
    assert "BroadcastHashJoin" in plan, plan
