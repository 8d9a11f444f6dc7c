"""The streaming job: Kafka → parse → clean → apply → PostgreSQL, for as long as it is let."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.streaming.query import StreamingQuery
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

from conf.settings import Settings
from jvm.session import spark_session
from streaming.apply import Applied, Coordinates, apply_batch
from streaming.clean import clean
from streaming.errors import AwayError, StreamingError
from streaming.mart import application_name, connect, describe_shop
from streaming.parse import parse
from streaming.positions import Writer, advance, check_fence, check_topic, read_positions, starting_offsets, take_over
from streaming.progress import report
from streaming.score import check_scores, thin_history
from streaming.source import describe_topic, read_topic
from streaming.warm_up import warm_up

log = structlog.get_logger()
_POLL_SECONDS = 1
_FAILURES_IN_A_ROW = 5
_THIN_SECONDS = 3600


@dataclass(frozen=True)
class RunOptions:
    """How to run: until the end of the topic as it is now (`available_now`), past records that the broker has
    deleted (`accept_gap`), with so many warm-up rounds before the first batch, checking all scores each `check_every`
    batches (0: never)."""

    available_now: bool = False
    accept_gap: bool = False
    warm_up_rounds: int = 8
    check_every: int = 1000


@dataclass
class Job:
    """The running job's state: its mart connection, its right to write, and how the last batch went."""

    settings: Settings
    stopping: threading.Event
    check_every: int = 0
    writer: Writer | None = None
    connection: Connection | None = None
    failure: BaseException | None = None
    committed_batches: int = 0
    thinned_at: float | None = None
    applying: threading.Lock = field(default_factory=threading.Lock)

    def patiently(self) -> Retrying:
        """Try again while something is away, ever more slowly, until OUTAGE_PATIENCE_SECONDS or a stop signal."""
        return Retrying(
            retry=retry_if_exception_type(AwayError),
            wait=wait_exponential(multiplier=0.5, max=15),
            stop=stop_any(stop_after_delay(self.settings.outage_patience_seconds), stop_when_event_set(self.stopping)),
            sleep=sleep_using_event(self.stopping),
            before_sleep=_say_away,
            reraise=True,
        )

    def connected(self) -> Connection:
        if self.connection is None or self.connection.closed:
            self.connection = connect(self.settings.require_mart())
        return self.connection

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def check_fence(self) -> None:
        """Raise FencedError if a newer job has taken over; AwayError if PostgreSQL cannot be asked now."""
        assert self.writer is not None  # noqa: S101
        try:
            with self.connected() as connection, connection.cursor() as cursor:
                check_fence(cursor, self.writer)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.disconnect()
            raise AwayError(f"PostgreSQL failed: {' '.join(str(error).split())}") from error

    def apply_micro_batch(self, records: DataFrame, _spark_batch_id: int) -> None:
        """foreachBatch: parse, clean and apply one micro-batch of Kafka records, trying again while PostgreSQL is
        away. Spark's batch id is no safe key (a restored checkpoint uses it again), so it is not used."""
        try:
            with self.applying:
                if self.stopping.is_set():
                    return
                parse_start = time.perf_counter()
                batch = clean(parse(records, self.settings.shop_time_zone, self.settings.max_message_bytes)).toArrow()
                parse_milliseconds = round((time.perf_counter() - parse_start) * 1000, 1)
                for attempt in self.patiently():
                    with attempt:
                        applied = self._apply(batch, records)
                applied.milliseconds = {"parse": parse_milliseconds, **applied.milliseconds}
                self.committed_batches += 1
                report(applied, self.writer)
                self._look_after_scores()
        except BaseException as failure:
            self.failure = failure
            raise

    def _apply(self, batch: Any, records: DataFrame) -> Applied:
        assert self.writer is not None  # noqa: S101
        try:
            return apply_batch(
                self.connected(),
                self.writer,
                batch,
                self.settings.returns_policy,
                lambda coordinates: _raw_values(records, coordinates),
            )
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.disconnect()
            raise AwayError(f"PostgreSQL failed: {' '.join(str(error).split())}") from error

    def _look_after_scores(self) -> None:
        """Between two batches: check all scores when it is time, and thin the history once an hour."""
        try:
            if self.check_every and self.committed_batches % self.check_every == 0:
                check_scores(self.connected())
            if self.thinned_at is None or time.monotonic() - self.thinned_at > _THIN_SECONDS:
                settings = self.settings
                thin_history(self.connected(), settings.history_minutes_days, settings.history_hours_days)
                self.thinned_at = time.monotonic()
        except (AwayError, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.disconnect()  # the batch is committed; the next one waits for PostgreSQL
            log.warning("scores not checked", reason=" ".join(str(error).split()))


def run(settings: Settings, options: RunOptions) -> None:
    """Start Spark and run the job until the end of the topic (`available_now`) or until SIGTERM or SIGINT.

    Raises what `stream` raises.
    """
    settings.require_kafka()
    settings.require_mart()
    start = time.perf_counter()
    spark = spark_session("retail-mart streaming", settings)
    with _stop_signals() as stopping:
        log.info("spark started", version=spark.version, seconds=round(time.perf_counter() - start, 1))
        if options.warm_up_rounds and not stopping.is_set():
            log.info("warmed up", seconds=round(warm_up(spark, settings, options.warm_up_rounds), 1))
        try:
            batches = stream(spark, settings, options, stopping)
        finally:
            spark.stop()
    log.info("stopped", batches=batches)


def stream(spark: SparkSession, settings: Settings, options: RunOptions, stopping: threading.Event) -> int:
    """Apply the topic until its end (`available_now`) or until `stopping` is set; returns the committed batches.

    Raises StreamingError when an operator has something to do; AwayError when Kafka or PostgreSQL stayed away for
    longer than OUTAGE_PATIENCE_SECONDS.
    """
    job = Job(settings, stopping, options.check_every)
    try:
        _run_until_done(spark, job, options)
    finally:
        job.disconnect()
    return job.committed_batches


def _run_until_done(spark: SparkSession, job: Job, options: RunOptions) -> None:
    failures, committed = 0, 0
    while not job.stopping.is_set():
        try:
            for attempt in job.patiently():
                with attempt:
                    records, checkpoint = _prepare(spark, job, options)
        except AwayError:
            if job.stopping.is_set():
                return
            raise
        query = (
            records.writeStream.foreachBatch(job.apply_micro_batch)
            .option("checkpointLocation", checkpoint)
            .queryName("apply")
        )
        query = query.trigger(availableNow=True) if options.available_now else query.trigger(processingTime="0 seconds")
        try:
            if _wait(query.start(), job):
                return
        except AwayError as away:
            failures = 1 if job.committed_batches > committed else failures + 1
            committed = job.committed_batches
            if failures == _FAILURES_IN_A_ROW:
                raise
            log.warning("query failed, starting it again", reason=str(away), failures_in_a_row=failures)
            job.stopping.wait(failures)


def _prepare(spark: SparkSession, job: Job, options: RunOptions) -> tuple[DataFrame, str]:
    """Take over the topic and read it from the mart's positions, with a checkpoint folder of this epoch's own."""
    settings = job.settings
    topic = describe_topic(settings.require_kafka(), settings.kafka_topic, settings.kafka_timeout_seconds)
    try:
        connection = job.connected()
        describe_shop(connection, settings)
        with connection, connection.cursor() as cursor:
            job.writer = take_over(cursor, topic, application_name())
            check_topic(cursor, topic)
            positions = read_positions(cursor, topic)
            start = starting_offsets(positions, topic, options.accept_gap)
            _accept(cursor, job.writer, positions, start)
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        job.disconnect()
        raise AwayError(f"PostgreSQL failed: {' '.join(str(error).split())}") from error
    log.info(
        "reading",
        topic=topic.name,
        epoch=job.writer.epoch,
        start=start,
        lag=sum(topic.end_offsets[p] - offset for p, offset in start.items()),
    )
    records = read_topic(spark, settings.require_kafka(), topic, start, settings.max_invoices_per_batch)
    return records, _fresh_checkpoint(settings, job.writer)


def _accept(cursor: Any, writer: Writer, positions: Mapping[int, int], start: Mapping[int, int]) -> None:
    moved = {p: offset for p, offset in start.items() if positions.get(p) != offset}
    for partition in moved.keys() & positions.keys():
        log.warning("accepted a gap", partition=partition, lost=moved[partition] - positions[partition])
    advance(cursor, writer, moved)


def _fresh_checkpoint(settings: Settings, writer: Writer) -> str:
    """A checkpoint folder that no earlier run used: a restart begins where the mart says, whatever lies there."""
    parent = f"{settings.checkpoints}/{writer.topic.name}"
    if "://" not in parent:
        for earlier in Path(parent).glob("epoch-*"):
            shutil.rmtree(earlier, ignore_errors=True)
    return f"{parent}/epoch-{writer.epoch}"


def _wait(query: StreamingQuery, job: Job) -> bool:
    """Wait for the query's end or a stop signal. True: done; raises what made it fail."""
    try:
        while not job.stopping.is_set():
            if query.awaitTermination(_POLL_SECONDS):
                return True
        # Not between a batch's transaction and its commit: the next batch sees the signal and does nothing.
        with job.applying:
            query.stop()
        return True
    except StreamingQueryException as error:
        failure, job.failure = job.failure, None
        if isinstance(failure, StreamingError | AwayError):
            raise failure from None
        message = str(error)
        if failure is None:  # Spark's own: a newer job on this machine also clears away this one's checkpoint
            job.check_fence()
        if failure is None and "org.apache.kafka.common.errors" in message:
            raise AwayError(_first_line(message)) from error
        raise


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "")[:500]


def _raw_values(records: DataFrame, coordinates: Collection[Coordinates]) -> dict[Coordinates, bytes]:
    """Read the values of a few records of a micro-batch once more, from Kafka."""
    wanted = F.struct("partition", "offset").isin(
        *(F.struct(F.lit(partition), F.lit(offset).cast("bigint")) for partition, offset in coordinates)
    )
    rows = records.where(wanted).select("partition", "offset", "value").collect()
    return {(row["partition"], row["offset"]): bytes(row["value"]) for row in rows}


def _say_away(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0
    log.warning("waiting", reason=str(error), attempt=state.attempt_number, next_try_seconds=round(wait, 1))


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that the job ends between two transactions."""
    stopping = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
