"""What every job has, tried without Spark: a batch's correlation id in the log, and which failures are outages."""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future
from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest
import structlog
from pyspark.errors import StreamingQueryException
from structlog.testing import capture_logs
from tenacity import wait_none

from conf.errors import StreamingError, UnavailableError
from conf.settings import Settings
from streaming import job as job_module
from streaming.job import Job, RunOptions
from streaming.metrics import Metrics


class TwoLines(Job):
    name = "apply"

    def check(self):
        raise NotImplementedError

    def prepare(self, spark):
        raise NotImplementedError

    def check_topic(self, session, topic):
        raise NotImplementedError

    def process(self, session, records, covered):
        assert covered == {0: (0, 7)}
        structlog.get_logger().info("began", records=records)

    def look_after(self):
        structlog.get_logger().info("ended")


def two_lines() -> TwoLines:
    return TwoLines(Settings(), RunOptions(), threading.Event(), Metrics(Settings()))


def test_every_line_of_a_batch_has_its_id_and_no_other_line_has(monkeypatch):
    monkeypatch.setattr(job_module, "covered_now", lambda query: {0: (0, 7)} if query == "query" else None)
    job = two_lines()
    started = Future()
    started.set_result("query")
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        job._micro_batch("session", started, "first", 0)
        structlog.get_logger().info("between")
        job._micro_batch("session", started, "second", 0)  # Spark's own batch id may come again
    assert [line["event"] for line in lines] == ["began", "ended", "between", "began", "ended"]
    first, same, between, second, too = (line.get("batch") for line in lines)
    assert between is None
    assert first == same != second == too
    assert re.fullmatch("apply-[0-9a-f]{12}", first)


class Failing:
    """A streaming query that ends with an error, as Spark words it."""

    def __init__(self, message):
        self.message = message

    def awaitTermination(self, _seconds):  # noqa: N802  Spark's name
        raise StreamingQueryException(self.message)


BEGIN = "[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: "
IN_BATCH = (
    BEGIN + "[FOREACH_BATCH_USER_FUNCTION_ERROR] An error occurred in the user provided function\n\tat a.B.c(D)\n"
)


@pytest.mark.parametrize(
    ("begin", "failure"),
    [(BEGIN, None), (IN_BATCH, RuntimeError("py4j: an error occurred while calling o22.getResult"))],
)
@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (
            "Caused by: org.apache.kafka.common.errors.TimeoutException: Timeout of 10000ms expired\n\tat e.F.g(H)",
            "Kafka failed: TimeoutException: Timeout of 10000ms expired",
        ),
        (
            "Caused by: org.apache.kafka.common.errors.DisconnectException\n\tat e.F.g(H)",
            "Kafka failed: DisconnectException",
        ),
        (
            "java.util.concurrent.TimeoutException: Cannot fetch record for offset 7 in 120000 milliseconds",
            "Kafka failed: TimeoutException: Cannot fetch record for offset 7 in 120000 milliseconds",
        ),
        (
            "Some data may have been lost because they are not available in Kafka any more;\neither the data was aged "
            "out by Kafka\nReason: Starting offset for t-0 was 3 but consumer reset to 9.\n\tat e.F.g(H)",
            "Kafka's offsets are not those that the query knew: Starting offset for t-0 was 3 but consumer reset to 9.",
        ),
        (
            "[LOST_TOPIC_PARTITIONS_IN_END_OFFSET_WITH_TRIGGER_AVAILABLENOW] Some of partitions in Kafka topic(s)",
            "Kafka's offsets are not those that the query knew: "
            "LOST_TOPIC_PARTITIONS_IN_END_OFFSET_WITH_TRIGGER_AVAILABLENOW",
        ),
        (  # partitions were added between our look at the topic and the query's own
            "assertion failed: If startingOffsets contains specific offsets, you must specify all TopicPartitions.\n"
            "Use -1 for latest, -2 for earliest.",
            "Kafka's offsets are not those that the query knew: If startingOffsets contains specific offsets",
        ),
    ],
)
def test_a_broker_that_became_unavailable_is_an_outage_whoever_was_reading(begin, failure, cause, reason):
    job = two_lines()
    job._failure = failure
    with pytest.raises(UnavailableError) as raised:
        job._wait("session", Failing(begin + cause))
    assert str(raised.value) == reason


class Stopping:
    """A streaming query whose stop waits for its thread, which is about to begin a batch."""

    def __init__(self, job):
        self.thread = threading.Thread(target=job._micro_batch, args=("session", Future(), "records", 0), daemon=True)

    def stop(self):
        self.thread.start()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_a_stop_does_not_hold_up_the_batch_that_it_waits_for():
    job = two_lines()
    job.stopping.set()
    job._wait("session", Stopping(job))
    assert job.committed_batches == 0


class Lasting:
    """A streaming query that is not stopped within spark.sql.streaming.stopTimeout."""

    def __init__(self, message):
        self.message = message

    def stop(self):
        raise RuntimeError(self.message)


def test_a_stop_that_takes_long_is_told_and_is_a_stop():
    job = two_lines()
    job.stopping.set()
    with capture_logs() as lines:
        job._wait(
            "session", Lasting("java.util.concurrent.TimeoutException: Stream Execution thread for stream [id = 1]")
        )
    assert [(line["log_level"], line["query"]) for line in lines] == [("warning", "apply")]
    with pytest.raises(RuntimeError, match="something else"):
        job._wait("session", Lasting("something else"))


def test_other_failures_are_none():
    job = two_lines()
    job._failure = ValueError("of ours")
    with pytest.raises(StreamingQueryException):
        job._wait("session", Failing(IN_BATCH + "ValueError: of ours"))
    job._failure = StreamingError("an operator has to look")
    with pytest.raises(StreamingError, match="an operator"):
        job._wait("session", Failing(IN_BATCH + "org.apache.kafka.common.errors.TimeoutException: meanwhile"))


@pytest.fixture
def outages(monkeypatch, tmp_path):
    """A job of which each run of the query ends as the next of a list says, without a pause in between."""
    job = TwoLines(Settings(mart_home=tmp_path), RunOptions(), threading.Event(), Metrics(Settings()))
    ends = []

    def wait(_session, _query):
        committed, failure = ends.pop(0)
        job.committed_batches += committed
        if failure is not None:
            raise failure

    monkeypatch.setattr(job, "prepare", lambda _spark: nullcontext(MagicMock()))
    monkeypatch.setattr(job, "_start", MagicMock())
    monkeypatch.setattr(job, "_wait", wait)
    monkeypatch.setattr(job_module, "wait_exponential", lambda **_: wait_none())
    return job, ends


def test_each_start_after_an_outage_is_counted_and_a_query_that_got_on_begins_anew(outages):
    job, ends = outages
    unavailable = UnavailableError("nobody answers")
    ends += [(0, unavailable), (0, unavailable), (3, unavailable), (0, unavailable), (1, None)]
    with capture_logs() as lines:
        job.run(MagicMock())
    assert ends == []
    said = [(line["event"], line.get("attempt")) for line in lines]
    assert said == [("waiting", 1), ("waiting", 2), ("query failed, starting it again", None), ("waiting", 1)]


def test_a_stop_while_a_server_is_unavailable_is_a_clean_end(outages, monkeypatch):
    job, ends = outages
    ends += [(0, UnavailableError("nobody answers"))]
    monkeypatch.setattr(job_module, "sleep_using_event", lambda stopping: lambda _seconds: stopping.set())
    ends += [(0, UnavailableError("nor then"))]
    job.run(MagicMock())
    assert ends == []


def test_who_stays_unavailable_for_longer_than_the_patience_ends_the_job(outages):
    job, ends = outages
    job.settings = job.settings.model_copy(update={"outage_patience_seconds": 0})
    ends += [(0, UnavailableError("nobody answers"))]
    with pytest.raises(UnavailableError, match="nobody answers"):
        job.run(MagicMock())
