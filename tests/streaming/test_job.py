"""What every job has, tried without Spark: a batch's correlation id in the log, which failures are outages, and for how
long they are waited for. The queries are scripted: they do with a batch and its failure what Spark's do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import MagicMock

import pytest
import structlog
from pyspark.errors import StreamingQueryException
from structlog.testing import capture_logs

from conf.errors import StreamingError, UnavailableError
from conf.settings import Settings
from streaming import job as job_module
from streaming.job import Job, RunOptions, Session
from streaming.metrics import Metrics
from topic.describe import Topic

BEGIN = "[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: "
IN_BATCH = (
    BEGIN + "[FOREACH_BATCH_USER_FUNCTION_ERROR] An error occurred in the user provided function\n\tat a.B.c(D)\n"
)


@dataclass
class Clock:
    """In the place of the module `time`; `passing`: what happens while somebody waits."""

    now: float = 1000.0
    passing: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now


UNTIL_STOPPED = "until stopped"


@dataclass
class Query:
    """One start of the query, which may fail; `seconds` later its batches, each with the failure that it ends with, of
    which Spark says `words`; then its end: what Spark says of it, UNTIL_STOPPED (the stop may fail), or well."""

    batches: Sequence[Exception | None] = ()
    end: str = ""
    words: str | None = None
    seconds: float = 0
    start_fails: Exception | None = None
    stop_fails: str = ""

    def begin(self, job: Scripted) -> Query:
        self.job = job
        if self.start_fails:
            raise self.start_fails
        return self

    def awaitTermination(self, _seconds):  # noqa: N802  Spark's name
        self.job.clock.now += self.seconds
        for becomes in self.batches:
            try:
                self.job.for_each(becomes, 0)  # Spark's own batch id may come again
            except Exception as failure:
                raise StreamingQueryException(self.words or f"{IN_BATCH}{type(failure).__name__}: {failure}") from None
            structlog.get_logger().info("between")
        if self.end == UNTIL_STOPPED:
            self.job.stopping.set()
            return False
        if self.end:
            raise StreamingQueryException(self.end)
        return True

    def stop(self):
        """Waits for its thread, which is about to begin a batch."""
        if self.stop_fails:
            raise RuntimeError(self.stop_fails)
        thread = threading.Thread(target=self.job.for_each, args=(None, 0), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


class Scripted(Job):
    """A job of which each start gets the next of `queries`. A batch's records are the failure that it ends with."""

    name = "apply"

    def __init__(self, *queries: Query, patience: float = 0) -> None:
        settings = Settings(outage_patience_seconds=patience)
        super().__init__(settings, RunOptions(), threading.Event(), Metrics(settings))
        self.queries = list(queries)
        self.clock = Clock()
        self.writer = MagicMock()
        for step in (self.writer.option, self.writer.queryName, self.writer.trigger):
            step.return_value = self.writer
        self.writer.foreachBatch.side_effect = self._keep
        self.writer.start.side_effect = lambda: self.queries.pop(0).begin(self)

    def _keep(self, for_each):
        self.for_each = for_each
        return self.writer

    def check(self):
        raise NotImplementedError

    @contextmanager
    def prepare(self, spark) -> Iterator[Session]:
        yield Session(Topic("t", "id", {}, {}), MagicMock(), MagicMock(writeStream=self.writer))

    def check_topic(self, session, topic):
        raise NotImplementedError

    def process(self, session, records, covered):
        assert covered == {0: (0, 7)}
        structlog.get_logger().info("began")
        if records is not None:
            raise records

    def look_after(self):
        structlog.get_logger().info("ended")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """What a job logs on its way to its end. What a batch covers is Spark's to say; what is waited passes at once, on
    the job's own clock."""
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    monkeypatch.setattr(job_module, "covered_now", lambda query: {0: (0, 7)})

    def run(job: Scripted) -> list[dict]:
        def pass_by(seconds: float) -> None:
            job.clock.now += seconds
            job.clock.passing()

        monkeypatch.setattr("tenacity.time", job.clock)
        monkeypatch.setattr(job_module, "time", job.clock)
        monkeypatch.setattr(job_module, "sleep_using_event", lambda _stopping: pass_by)
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            job.run(MagicMock())
        assert job.queries == []
        return lines

    return run


def test_every_line_of_a_batch_has_its_id_and_no_other_line_has(run):
    lines = run(Scripted(Query([None, None])))
    assert [line["event"] for line in lines] == ["began", "ended", "between"] * 2
    first, same, between, second, too, after = (line.get("batch") for line in lines)
    assert between is after is None
    assert first == same != second == too
    assert re.fullmatch("apply-[0-9a-f]{12}", first)


@pytest.mark.parametrize(
    ("begin", "batches"),
    [(BEGIN, []), (IN_BATCH, [RuntimeError("py4j: an error occurred while calling o22.getResult")])],
    ids=["its own look", "a batch"],
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
            "Kafka's offsets are not the ones that the query knew: "
            "Starting offset for t-0 was 3 but consumer reset to 9.",
        ),
        (
            "[LOST_TOPIC_PARTITIONS_IN_END_OFFSET_WITH_TRIGGER_AVAILABLENOW] Some of partitions in Kafka topic(s)",
            "Kafka's offsets are not the ones that the query knew: "
            "LOST_TOPIC_PARTITIONS_IN_END_OFFSET_WITH_TRIGGER_AVAILABLENOW",
        ),
        (  # partitions were added between our look at the topic and the query's own
            "assertion failed: If startingOffsets contains specific offsets, you must specify all TopicPartitions.\n"
            "Use -1 for latest, -2 for earliest.",
            "Kafka's offsets are not the ones that the query knew: If startingOffsets contains specific offsets",
        ),
    ],
)
def test_a_broker_that_became_unavailable_is_an_outage_whoever_was_reading(run, begin, batches, cause, reason):
    with pytest.raises(UnavailableError) as raised:
        run(Scripted(Query(batches, end=begin + cause, words=begin + cause)))
    assert str(raised.value) == reason


def test_a_stop_does_not_hold_up_the_batch_that_it_waits_for(run):
    job = Scripted(Query(end=UNTIL_STOPPED))
    assert run(job) == []
    assert job.committed_batches == 0


def test_a_stop_that_takes_long_is_told_and_is_a_stop(run):
    lasting = "java.util.concurrent.TimeoutException: Stream Execution thread for stream [id = 1]"
    lines = run(Scripted(Query(end=UNTIL_STOPPED, stop_fails=lasting)))
    assert [(line["log_level"], line["query"]) for line in lines] == [("warning", "apply")]
    with pytest.raises(RuntimeError, match="something else"):
        run(Scripted(Query(end=UNTIL_STOPPED, stop_fails="something else")))


def test_other_failures_are_none(run):
    with pytest.raises(StreamingQueryException, match="of ours"):
        run(Scripted(Query([ValueError("of ours")])))
    meanwhile = IN_BATCH + "org.apache.kafka.common.errors.TimeoutException: meanwhile"
    with pytest.raises(StreamingError, match="an operator"):
        run(Scripted(Query([StreamingError("an operator has to look")], words=meanwhile)))


AWAY = UnavailableError("nobody answers")


def told(lines: list[dict]) -> list[tuple[str, int | None, float | None]]:
    """What was said of outages: (event, attempt, seconds until the next one)."""
    return [
        (line["event"], line.get("attempt"), line.get("next_try_seconds"))
        for line in lines
        if line["log_level"] == "warning"
    ]


def test_failures_in_a_row_are_waited_for_ever_longer_and_a_query_that_got_on_begins_anew(run):
    five, anew = [Query([AWAY])] * 5, [Query([AWAY])] * 2
    lines = run(Scripted(*five, Query([None, None, None, AWAY]), *anew, Query([None]), patience=600))
    assert told(lines) == [
        *(("waiting", attempt, seconds) for attempt, seconds in enumerate((0.5, 1, 2, 4, 8), 1)),
        ("query failed, starting it again", None, None),
        *(("waiting", 1, 0.5), ("waiting", 2, 1)),
    ]


def test_a_query_that_was_well_for_a_minute_had_its_servers_though_nothing_came(run):
    lines = run(Scripted(Query([AWAY]), Query([AWAY], seconds=61), Query([AWAY]), Query([None]), patience=600))
    assert [event for event, *_ in told(lines)] == ["waiting", "query failed, starting it again", "waiting"]


def test_the_patience_is_that_of_an_outage_and_not_of_the_job(run):
    """Three outages of some 50 s each, with days in between, are within a patience of 60 s; one of 70 s is not."""
    outage = [Query([AWAY])] * 7  # waits of 0.5, 1, 2, 4, 8, 15 and 15 s
    well = Query([None, AWAY], seconds=200_000)
    run(Scripted(*outage, well, *outage, well, *outage, Query([None]), patience=60))
    job = Scripted(*outage, well, *outage, *outage[:2], patience=60)
    begun = job.clock.now
    with pytest.raises(UnavailableError, match="nobody answers"):
        run(job)
    assert job.queries == []
    assert 45.5 + 200_000 + 60 <= job.clock.now - begun < 45.5 + 200_000 + 60 + 15 + 1


def test_who_has_no_patience_ends_at_once(run):
    with pytest.raises(UnavailableError, match="nobody answers"):
        run(Scripted(Query([AWAY])))


@pytest.mark.parametrize("then", [Query(), Query(start_fails=AWAY)], ids=["there again", "still unavailable"])
def test_a_stop_while_a_server_is_unavailable_is_a_clean_end(run, then):
    job = Scripted(Query([AWAY]), then, patience=600)
    job.clock.passing = job.stopping.set
    run(job)
