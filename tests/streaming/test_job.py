"""What every job has, tried without Spark: one correlation id in all log lines of a batch."""

from __future__ import annotations

import re
import threading

import structlog
from structlog.testing import capture_logs

from conf.settings import Settings
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
