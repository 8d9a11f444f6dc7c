"""What every job has, tried without Spark: a batch's correlation id in the log, and which failures are outages."""

from __future__ import annotations

import re
import threading

import pytest
import structlog
from pyspark.errors import StreamingQueryException
from structlog.testing import capture_logs

from conf.settings import Settings
from streaming.errors import AwayError, StreamingError
from streaming.job import Job, RunOptions


class TwoLines(Job):
    name = "apply"

    def prepare(self, spark):
        raise NotImplementedError

    def process(self, records):
        structlog.get_logger().info("began", records=records)

    def look_after(self):
        structlog.get_logger().info("ended")


def test_every_line_of_a_batch_has_its_id_and_no_other_line_has():
    job = TwoLines(Settings(), RunOptions(), threading.Event())
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        job._micro_batch("first", 0)
        structlog.get_logger().info("between")
        job._micro_batch("second", 0)  # Spark's own batch id may come again
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
    ],
)
def test_a_broker_that_went_away_is_an_outage_whoever_was_reading(begin, failure, cause, reason):
    job = TwoLines(Settings(), RunOptions(), threading.Event())
    job._failure = failure
    with pytest.raises(AwayError) as raised:
        job._wait(Failing(begin + cause))
    assert str(raised.value) == reason


def test_other_failures_are_none():
    job = TwoLines(Settings(), RunOptions(), threading.Event())
    job._failure = ValueError("of ours")
    with pytest.raises(StreamingQueryException):
        job._wait(Failing(IN_BATCH + "ValueError: of ours"))
    job._failure = StreamingError("an operator has to look")
    with pytest.raises(StreamingError, match="an operator"):
        job._wait(Failing(IN_BATCH + "org.apache.kafka.common.errors.TimeoutException: meanwhile"))
