"""Job: one streaming query that is kept running, through outages, until its end or a stop signal."""

from __future__ import annotations

import re
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import pyarrow as pa
import structlog
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from structlog.contextvars import bound_contextvars
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_exponential,
)

from conf.errors import StreamingError, UnavailableError
from conf.kafka import Brokers
from conf.settings import Settings
from streaming import metrics
from streaming.executors import Step
from streaming.read_topic import covered_now, read_range
from streaming.slices import MOST_BYTES, Slice, slices
from topic.consume import consume_range
from topic.describe import Topic, TopicAdmin, describe_topic
from topic.offsets import Covered

log = structlog.get_logger()
_POLL_SECONDS = 1
_FAILURES_IN_A_ROW = 5
# What Spark's messages say of a broker that became unavailable; the second is a task's own patience (pollTimeoutMs).
_OF_KAFKA = re.compile(
    r"(?:org\.apache\.kafka\.common\.errors\.|java\.util\.concurrent\.(?=TimeoutException: Cannot fetch))(\w.{0,400})"
)
# What the connector's messages say of offsets that are gone, or not yet there: retention, another topic of the name,
# new partitions in the wrong moment (kafka-error-conditions.json of spark-sql-kafka). A look at the topic tells which.
_OF_OFFSETS = re.compile(
    r"lost because they are not available in Kafka any more;[^\[]*?Reason: ([^\n]{0,300})"
    r"|OffsetOutOfRangeException: ([^\n]{0,300})"
    r"|assertion failed: (If startingOffsets contains specific offsets)"  # partitions added while the query starts
    r"|\[(\w*(?:END_OFFSET|TOPIC_PARTITIONS|DOES_NOT_MATCH_ASSIGNED)\w*)\]"
)


@dataclass(frozen=True)
class RunOptions:
    """How to run: until the end of the topic as it is now (`available_now`), past records that the broker has
    deleted (`accept_gap`), with so many warm-up rounds before the first batch, checking all scores each `check_every`
    batches (0: never), both queries or `only` one."""

    available_now: bool = False
    accept_gap: bool = False
    warm_up_rounds: int = 8
    check_every: int = 1000
    only: Literal["apply", "land"] | None = None


class Job(ABC):
    """One query's running state: how it is going, and that it is not stopped within a batch."""

    name: ClassVar[str]
    trigger_seconds: ClassVar[int] = 0
    fetch_wait_ms: ClassVar[int | None] = None

    def __init__(self, settings: Settings, options: RunOptions, stopping: threading.Event) -> None:
        self.settings = settings
        self.options = options
        self.stopping = stopping
        self.committed_batches = 0
        self._failure: BaseException | None = None
        self._in_batch = threading.Lock()
        self._topic_admin: TopicAdmin | None = None
        self.group = f"retail-mart-{self.name}-{uuid.uuid4().hex}"

    @abstractmethod
    def prepare(self, spark: SparkSession) -> tuple[DataFrame, str]:
        """The stream of records from where the job's own store says, and a checkpoint folder that no run used.

        Raises StreamingError when an operator has something to do, UnavailableError when a server is unavailable.
        """

    @abstractmethod
    def process(self, records: DataFrame, covered: Covered) -> None:
        """One micro-batch into the store, slice by slice, each whole or not at all; `covered`: what it is read from."""

    def describe_topic(self) -> Topic:
        """The topic as it is now, and a kept connection to ask whether it is still the same one. Raises StreamingError
        if it is compacted, and what source.describe_topic raises."""
        settings = self.settings
        asked = (Brokers.of(settings), settings.kafka_topic)
        self._disconnect_topic()
        topic = describe_topic(*asked)
        self._topic_admin = TopicAdmin(*asked)
        self._topic_admin.check_cleanup_policy()
        return topic

    @abstractmethod
    def check_topic(self, topic: Topic) -> None:
        """Raise TopicChangedError if the store's positions are of an earlier topic of this name."""

    def slices(
        self, records: DataFrame, covered: Covered, topic: Topic, step: Step, one_task: bool = False, niceness: int = 0
    ) -> Iterator[Slice]:
        """The micro-batch's slices, until a stop signal.

        After each was read, the broker is asked whether the topic still is the one that the query began with: the
        records of another one may have been read from the old one's offsets. Raises TopicChangedError, or
        UnavailableError if the store has been told already (`rewind`), so that the query begins again with the new
        topic.
        """
        assert self._topic_admin is not None  # noqa: S101
        settings = self.settings
        servers, security = settings.require_kafka(), settings.spark_kafka_security()

        def again(part: Covered) -> DataFrame:
            read = read_range(records.sparkSession, servers, topic, part, security, self.fetch_wait_ms, self.group)
            return read.coalesce(1) if one_task else read

        def without_spark(part: Covered, most_bytes: int) -> tuple[pa.Table, bool]:
            return consume_range(Brokers.of(settings), topic.name, part, most_bytes)

        whole = records.coalesce(1) if one_task else records
        for part in slices(whole, covered, step, again, without_spark, MOST_BYTES, niceness, 1 if one_task else None):
            topic_id = self._topic_admin.topic_id()
            if topic_id != topic.topic_id:
                self.check_topic(replace(topic, topic_id=topic_id))
                raise UnavailableError(
                    f"topic {topic.name!r} was re-created: it has id {topic_id}, not {topic.topic_id}"
                )
            yield part
            if self.stopping.is_set():
                return

    def look_after(self) -> None:  # noqa: B027
        """Between two batches: what the store needs now and then. The batch before it is committed already."""

    def close(self) -> None:
        """Let go of what the job holds; called when it has ended, however it did."""
        self._disconnect_topic()

    def check_superseded(self) -> None:  # noqa: B027
        """Raise if a newer job is the reason of a failure in Spark itself."""

    def patiently(self) -> Retrying:
        """Try again while something is unavailable, ever more slowly, until OUTAGE_PATIENCE_SECONDS or a stop
        signal."""
        return Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=wait_exponential(multiplier=0.5, max=15),
            stop=stop_any(stop_after_delay(self.settings.outage_patience_seconds), stop_when_event_set(self.stopping)),
            sleep=sleep_using_event(self.stopping),
            before_sleep=self._say_unavailable,
            reraise=True,
        )

    def run(self, spark: SparkSession) -> None:
        """Run until the end of the topic (`available_now`) or until `stopping` is set.

        Raises StreamingError when an operator has something to do; UnavailableError when Kafka or the store was
        unavailable for longer than OUTAGE_PATIENCE_SECONDS.
        """
        try:
            self._run_until_done(spark)
        finally:
            self.close()

    def _run_until_done(self, spark: SparkSession) -> None:
        # What the query's own thread runs inherits the pool; see streaming/fairscheduler.xml.
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
        failures, committed = 0, 0
        while not self.stopping.is_set():
            try:
                for attempt in self.patiently():
                    with attempt:
                        records, checkpoint = self.prepare(spark)
            except UnavailableError:
                if self.stopping.is_set():
                    return
                raise
            started: Future[StreamingQuery] = Future()
            query = (
                records.writeStream.foreachBatch(partial(self._micro_batch, started))
                .option("checkpointLocation", checkpoint)
                .queryName(self.name)
            )
            query = (
                query.trigger(availableNow=True)
                if self.options.available_now
                else query.trigger(processingTime=f"{self.trigger_seconds} seconds")
            )
            try:
                running = query.start()
                started.set_result(running)
                with metrics.query_running(self.name):
                    if self._wait(running):
                        return
            except UnavailableError as error:
                if self.stopping.is_set():
                    return
                failures = 1 if self.committed_batches > committed else failures + 1
                committed = self.committed_batches
                if failures == _FAILURES_IN_A_ROW:
                    raise
                log.warning(
                    "query failed, starting it again", query=self.name, reason=str(error), failures_in_a_row=failures
                )
                self.stopping.wait(failures)

    def _micro_batch(self, started: Future[StreamingQuery], records: DataFrame, _spark_batch_id: int) -> None:
        """foreachBatch. Spark's batch id is no safe key (a restored checkpoint uses it again), so it is not used.

        `started` gets the query, of which the first batch may begin before its start has returned.
        """
        try:
            if not self._in_batch.acquire(blocking=False):  # the stop has it, and waits for this thread's end
                return
            try:
                # One id in every line that the log has of this batch.
                with bound_contextvars(batch=f"{self.name}-{uuid.uuid4().hex[:12]}"):
                    self._process(started, records)
            finally:
                self._in_batch.release()
        except UnavailableError as error:
            if self.stopping.is_set():  # what it waited for is not worth Spark's traceback; the batch was not committed
                return
            self._failure = error
            raise
        except BaseException as failure:
            self._failure = failure
            raise

    def _process(self, started: Future[StreamingQuery], records: DataFrame) -> None:
        if self.stopping.is_set():
            return
        covered = covered_now(started.result())
        if not covered:  # a query's first batch, where there is nothing yet
            return
        self.process(records, covered)
        self.committed_batches += 1
        self.look_after()

    def _wait(self, query: StreamingQuery) -> bool:
        """Wait for the query's end or a stop signal. True: done; raises what made it fail."""
        try:
            while not self.stopping.is_set():
                if query.awaitTermination(_POLL_SECONDS):
                    return True
            # Not between a batch's transaction and its commit: the next batch sees the signal and does nothing.
            with self._in_batch:
                self._stop(query)
            return True
        except StreamingQueryException as error:
            failure, self._failure = self._failure, None
            if isinstance(failure, StreamingError | UnavailableError):
                raise failure from None
            if failure is None:
                self.check_superseded()
            # From Spark's own look at the topic, or from the tasks that read it, which foreachBatch waits for.
            if of_kafka := _OF_KAFKA.search(str(error)):
                raise UnavailableError(f"Kafka failed: {of_kafka[1]}") from error
            if of_offsets := _OF_OFFSETS.search(str(error)):
                reason = next(filter(None, of_offsets.groups()))
                raise UnavailableError(f"Kafka's offsets are not those that the query knew: {reason}") from error
            raise

    def _stop(self, query: StreamingQuery) -> None:
        """Stop the query; where that takes longer than spark.sql.streaming.stopTimeout, the end of Spark ends it: what
        it is in the middle of commits nothing any more."""
        try:
            query.stop()
        except Exception as error:
            if "java.util.concurrent.TimeoutException" not in str(error):
                raise
            log.warning("the query takes long to stop, it ends with Spark", query=self.name)

    def _disconnect_topic(self) -> None:
        admin, self._topic_admin = self._topic_admin, None
        if admin is not None:
            admin.close()

    def _say_unavailable(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0
        log.warning(
            "waiting",
            query=self.name,
            reason=str(error),
            attempt=state.attempt_number,
            next_try_seconds=round(wait, 1),
        )
