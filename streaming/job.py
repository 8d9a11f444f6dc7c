"""Job: one streaming query that is kept running through outages, until its end or a stop signal."""

from __future__ import annotations

import re
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Generic, Literal, TypeVar

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
from conf.phases import Phases
from conf.settings import Settings
from streaming.checkpoint import checkpoint
from streaming.executors import Step
from streaming.metrics import Metrics
from streaming.read_topic import covered_now, read_range, read_topic
from streaming.slices import MOST_BYTES, Slice, slices
from topic.consume import consume_range
from topic.describe import Topic, TopicAdmin, describe_topic
from topic.offsets import Covered

log = structlog.get_logger()
_POLL_SECONDS = 1
_WELL_SECONDS = 60  # a query that ran this long had its servers
# What Spark's messages say of a broker that became unavailable; the second is a task's own patience (pollTimeoutMs).
_OF_KAFKA = re.compile(
    r"(?:org\.apache\.kafka\.common\.errors\.|java\.util\.concurrent\.(?=TimeoutException: Cannot fetch))(\w.{0,400})"
)
# What the connector's messages say of offsets that are gone, or not yet there: retention, another topic of the name,
# new partitions at the wrong moment (kafka-error-conditions.json of spark-sql-kafka). Asking the broker tells which.
_OF_OFFSETS = re.compile(
    r"lost because they are not available in Kafka any more;[^\[]*?Reason: ([^\n]{0,300})"
    r"|OffsetOutOfRangeException: ([^\n]{0,300})"
    r"|assertion failed: (If startingOffsets contains specific offsets)"  # partitions added while the query starts
    r"|\[(\w*(?:END_OFFSET|TOPIC_PARTITIONS|DOES_NOT_MATCH_ASSIGNED)\w*)\]"
)


@dataclass(frozen=True)
class RunOptions:
    """How to run: until the current end of the topic (`available_now`), past records that the broker has deleted
    (`accept_gap`), with this many warm-up rounds before the first batch, checking all scores every `check_every`
    batches (0: never), with both queries or `only` one; `phases` creates the timer for each piece of work."""

    available_now: bool = False
    accept_gap: bool = False
    warm_up_rounds: int = 8
    check_every: int = 1000
    only: Literal["apply", "land"] | None = None
    phases: Callable[[], Phases] = Phases


@dataclass(frozen=True)
class Session:
    """What one start of a query works with: the topic as it was then, a connection to ask whether it is still the same
    one, and its records from the store's next offsets on."""

    topic: Topic
    admin: TopicAdmin
    records: DataFrame


_Session = TypeVar("_Session", bound=Session)


class Job(ABC, Generic[_Session]):
    """The state of one running query: its progress, and the guarantee that it is not stopped within a batch."""

    name: ClassVar[str]
    trigger_seconds: ClassVar[int] = 0
    fetch_wait_ms: ClassVar[int | None] = None

    def __init__(self, settings: Settings, options: RunOptions, stopping: threading.Event, metrics: Metrics) -> None:
        self.settings = settings
        self.options = options
        self.stopping = stopping
        self.metrics = metrics
        self.committed_batches = 0
        self._failure: BaseException | None = None
        self._in_batch = threading.Lock()
        self.group = f"retail-mart-{self.name}-{uuid.uuid4().hex}"

    @abstractmethod
    def check(self) -> None:
        """Whether a start could resume from the store, without changing anything. Raises what `prepare` raises."""

    @abstractmethod
    def prepare(self, spark: SparkSession) -> AbstractContextManager[_Session]:
        """The session of a start, until the end of the block.

        Raises StreamingError if an operator must act, UnavailableError if a server is unavailable.
        """

    @abstractmethod
    def process(self, session: _Session, records: DataFrame, covered: Covered) -> None:
        """Store one micro-batch, slice by slice, each completely or not at all; `covered`: what it is read from."""

    @contextmanager
    def topic(self) -> Iterator[tuple[Topic, TopicAdmin]]:
        """The topic as it is now, and a connection to ask about it. Raises StreamingError if it is compacted, and what
        describe_topic raises."""
        settings = self.settings
        asked = (Brokers.of(settings), settings.kafka_topic)
        topic = describe_topic(*asked)
        with closing(TopicAdmin(*asked)) as admin:
            admin.check_cleanup_policy()
            yield topic, admin

    def read(
        self, spark: SparkSession, topic: Topic, start: Mapping[int, int], patience_seconds: float | None = None
    ) -> DataFrame:
        """The topic's records from these offsets on, as the settings and this query read them (`read_topic`)."""
        settings = self.settings
        return read_topic(
            spark,
            settings.require_kafka(),
            topic,
            start,
            settings.max_invoices_per_batch,
            patience_seconds,
            settings.spark_kafka_security(),
            self.fetch_wait_ms,
            self.group,
        )

    @abstractmethod
    def check_topic(self, session: _Session, topic: Topic) -> None:
        """Raise TopicChangedError if the store's next offsets belong to an earlier topic of this name."""

    def slices(
        self,
        session: _Session,
        records: DataFrame,
        covered: Covered,
        step: Step,
        one_task: bool = False,
        niceness: int = 0,
    ) -> Iterator[tuple[Slice, Phases]]:
        """The micro-batch's slices, until a stop signal, each with its phase timer, of which `parse` is over.

        After each one is read, the broker is asked whether the topic is still the one that the query began with:
        otherwise records of the new topic may have been read from the old one's offsets. Raises TopicChangedError, or
        UnavailableError if the store already knows (`rewind`), so that the query starts again with the new topic.
        """
        settings, topic = self.settings, session.topic
        servers, security = settings.require_kafka(), settings.spark_kafka_security()

        def again(part: Covered) -> DataFrame:
            read = read_range(records.sparkSession, servers, topic, part, security, self.fetch_wait_ms, self.group)
            return read.coalesce(1) if one_task else read

        def without_spark(part: Covered, most_bytes: int) -> tuple[pa.Table, bool]:
            return consume_range(Brokers.of(settings), topic.name, part, most_bytes)

        whole = records.coalesce(1) if one_task else records
        parts = slices(whole, covered, step, again, without_spark, MOST_BYTES, niceness, 1 if one_task else None)
        while True:
            phases = self.options.phases()
            with phases("parse"):
                part = next(parts, None)
            if part is None:
                return
            topic_id = session.admin.topic_id()
            if topic_id != topic.topic_id:
                self.check_topic(session, replace(topic, topic_id=topic_id))
                raise UnavailableError(
                    f"topic {topic.name!r} was re-created: it has id {topic_id}, not {topic.topic_id}"
                )
            yield part, phases
            if self.stopping.is_set():
                return

    def look_after(self) -> None:
        """Between two batches, do what the store needs from time to time. The previous batch is already committed."""

    def close(self) -> None:
        """Release what the job keeps between its starts; called when it has ended, for whatever reason."""

    def check_superseded(self, session: _Session) -> None:
        """Raise if a newer job has taken over: then the query must not be started again."""

    def patiently(self) -> Retrying:
        """Retry with backoff while something is unavailable, until OUTAGE_PATIENCE_SECONDS or a stop signal."""
        return Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=wait_exponential(multiplier=0.5, max=15),
            stop=stop_any(stop_after_delay(self.settings.outage_patience_seconds), stop_when_event_set(self.stopping)),
            sleep=sleep_using_event(self.stopping),
            before_sleep=self._say_unavailable,
            reraise=True,
        )

    def check_patiently(self) -> None:
        """Before Spark is started, which takes seconds: raise what would end the job at once."""
        try:
            for attempt in self.patiently():
                with attempt:
                    self.check()
        except UnavailableError:
            if not self.stopping.is_set():
                raise
        finally:
            self.close()

    def run(self, spark: SparkSession) -> None:
        """Run until the end of the topic (`available_now`) or until `stopping` is set.

        Raises StreamingError if an operator must act; UnavailableError if Kafka or the store was unavailable for longer
        than OUTAGE_PATIENCE_SECONDS.
        """
        # What the query's own thread runs inherits the pool; see streaming/fairscheduler.xml.
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
        try:
            done = self.stopping.is_set()
            while not done:
                for attempt in self.patiently():
                    with attempt:
                        done = self._run_query(spark)
        except UnavailableError:
            if not self.stopping.is_set():
                raise
        finally:
            self.close()

    def _run_query(self, spark: SparkSession) -> bool:
        """Start from the stored next offsets, and run. True: to the end. False: an outage ended it after it had made
        progress, so that patience for the outage begins now."""
        with (
            self.prepare(spark) as session,
            checkpoint(f"{self.settings.checkpoints}/{session.topic.name}", self.name) as folder,
        ):
            running, started = self._start(session, folder), time.monotonic()
            committed = self.committed_batches
            try:
                with self.metrics.query_running(self.name):
                    self._wait(session, running)
                return True
            except UnavailableError as error:
                got_on = self.committed_batches > committed or time.monotonic() - started > _WELL_SECONDS
                if not got_on or self.stopping.is_set():
                    raise
                log.warning("query failed, starting it again", query=self.name, reason=str(error))
                return False

    def _start(self, session: _Session, folder: str) -> StreamingQuery:
        started: Future[StreamingQuery] = Future()
        query = (
            session.records.writeStream.foreachBatch(partial(self._micro_batch, session, started))
            .option("checkpointLocation", folder)
            .queryName(self.name)
        )
        if self.options.available_now:
            query = query.trigger(availableNow=True)
        else:
            query = query.trigger(processingTime=f"{self.trigger_seconds} seconds")
        running = query.start()
        started.set_result(running)
        return running

    def _micro_batch(
        self, session: _Session, started: Future[StreamingQuery], records: DataFrame, _spark_batch_id: int
    ) -> None:
        """The foreachBatch function. It ignores Spark's batch id, which is not a safe key (a restored checkpoint uses
        it again).

        `started` gets the query; its first batch may begin before its start has returned.
        """
        try:
            if not self._in_batch.acquire(blocking=False):  # the stop has it, and waits for this thread's end
                return
            try:
                # One id in every log line of this batch.
                with bound_contextvars(batch=f"{self.name}-{uuid.uuid4().hex[:12]}"):
                    self._process(session, started, records)
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

    def _process(self, session: _Session, started: Future[StreamingQuery], records: DataFrame) -> None:
        if self.stopping.is_set():
            return
        covered = covered_now(started.result())
        if not covered:  # a query's first batch, where there is nothing yet
            return
        self.process(session, records, covered)
        self.committed_batches += 1
        self.look_after()

    def _wait(self, session: _Session, query: StreamingQuery) -> None:
        """Wait for the query's end or a stop signal. Raises whatever made the query fail."""
        try:
            while not self.stopping.is_set():
                if query.awaitTermination(_POLL_SECONDS):
                    return
            # Not between a batch's transaction and its commit: the next batch sees the signal and does nothing.
            with self._in_batch:
                self._stop(query)
        except StreamingQueryException as error:
            failure, self._failure = self._failure, None
            if isinstance(failure, StreamingError | UnavailableError):
                raise failure from None
            if failure is None:
                self.check_superseded(session)
            # From Spark's own look at the topic, or from the tasks that read it, which foreachBatch waits for.
            if of_kafka := _OF_KAFKA.search(str(error)):
                raise UnavailableError(f"Kafka failed: {of_kafka[1]}") from error
            if of_offsets := _OF_OFFSETS.search(str(error)):
                reason = next(filter(None, of_offsets.groups()))
                raise UnavailableError(f"Kafka's offsets are not the ones that the query knew: {reason}") from error
            log.error("the query ended unexpectedly", query=self.name, java_stack=getattr(error, "_stackTrace", None))
            raise

    def _stop(self, query: StreamingQuery) -> None:
        """Stop the query. If that takes longer than spark.sql.streaming.stopTimeout, the end of Spark ends it: whatever
        it is in the middle of no longer commits."""
        try:
            query.stop()
        except Exception as error:
            if "java.util.concurrent.TimeoutException" not in str(error):
                raise
            log.warning("the query is slow to stop and ends with Spark", query=self.name)

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
