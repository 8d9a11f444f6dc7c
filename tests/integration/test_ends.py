"""What ends the job in the midst of its work is one sentence: Spark's Java adds no stack to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

import stack
from conf.errors import FencedError, StreamingError, TopicChangedError
from conf.kafka import Brokers
from mart.connection import connect
from mart.next_offsets import take_over
from streaming.main import RunOptions, stream
from tests.builders.mart_rows import rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from topic.describe import describe_topic

pytestmark = [pytest.mark.stack, pytest.mark.slow]
EVENTS = encode(random_events(6, customers=3, seed=21))


def fenced(pipeline: Pipeline) -> None:
    with closing(connect(pipeline.mart.writer_dsn)) as newer, newer, newer.cursor() as cursor:
        take_over(cursor, describe_topic(Brokers(pipeline.bootstrap_servers), pipeline.topic), "a newer job")
    send(pipeline.bootstrap_servers, pipeline.topic, EVENTS[3:])


def refused_by_postgresql(pipeline: Pipeline) -> None:
    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER TABLE mart.invoice ADD CHECK (line_count < 0) NOT VALID")
    send(pipeline.bootstrap_servers, pipeline.topic, EVENTS[3:])


def topic_created_anew(pipeline: Pipeline) -> None:
    stack.delete_topic(pipeline.bootstrap_servers, pipeline.topic)
    stack.ensure_topic(pipeline.bootstrap_servers, pipeline.topic, 2)
    send(pipeline.bootstrap_servers, pipeline.topic, EVENTS)


@pytest.mark.parametrize(
    ("end", "error", "sentence"),
    [
        (fenced, FencedError, "only one job may write"),
        (refused_by_postgresql, StreamingError, "PostgreSQL refuses every invoice"),
        (topic_created_anew, TopicChangedError, "retail-mart rewind"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_end_of_a_job_is_a_sentence_without_sparks_stack(
    spark, pipeline, capsys, end: Callable[[Pipeline], None], error: type[Exception], sentence: str
):
    send(pipeline.bootstrap_servers, pipeline.topic, EVENTS[:3])
    options = RunOptions(warm_up_rounds=0, only="apply")
    stopping = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(stream, spark, pipeline.settings, options, stopping)
        try:
            until(lambda: job.done() or rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") == [(3,)])
            end(pipeline)
            with pytest.raises(error, match=sentence):
                job.result(timeout=120)
        finally:
            stopping.set()
    spark.sparkContext._jvm.java.lang.System.err.println("the end of what Java says")
    told: list[str] = []
    until(lambda: told.append(capsys.readouterr().err) or any("the end of what Java says" in text for text in told))
    said = "".join(told)
    assert "\tat " not in said
    assert "Traceback" not in said
