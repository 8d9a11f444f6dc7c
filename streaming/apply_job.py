"""The job that applies: Kafka → parse → clean → apply → PostgreSQL."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import structlog
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from conf.errors import UnavailableError
from conf.kafka import Brokers
from conf.line_rules import admin_codes
from conf.postgres import answering
from conf.settings import Settings
from mart.connection import Writing, application_name, connect
from mart.lock_watch import LockWatch
from mart.next_offsets import Writer, advance, check_fence, check_topic, read_next_offsets, take_over
from mart.score import check_scores, thin_history
from mart.shop_rules import adopt_rules
from streaming.apply import Coordinates, apply_batch
from streaming.clean import parse_and_clean
from streaming.executors import Step
from streaming.job import Job, RunOptions, Session
from streaming.lag import Lag
from streaming.metrics import Metrics
from streaming.progress import report_applied, report_gaps, report_reading
from topic.describe import Topic
from topic.offsets import Covered, starting_offsets

log = structlog.get_logger()
_THIN_SECONDS = 3600


@dataclass(frozen=True)
class ApplySession(Session):
    """Adds the right to write, and how far the mart is behind the topic's end."""

    writer: Writer
    lag: Lag


class ApplyJob(Job[ApplySession]):
    """Adds the mart connection to the query's state."""

    name = "apply"
    # By Kafka's default an idle fetch waits for half a second, and makes a record in another partition wait too.
    fetch_wait_ms = 5

    def __init__(self, settings: Settings, options: RunOptions, stopping: threading.Event, metrics: Metrics) -> None:
        super().__init__(settings, options, stopping, metrics)
        self._connection: Writing | None = None
        self._locks = LockWatch(settings, stopping, metrics.lock_wait.set)
        self._thinned_at = -math.inf

    def check(self) -> None:
        with self.topic() as (topic, _), self._mart() as connection, connection, connection.cursor() as cursor:
            self._begin(cursor, topic)

    def _begin(self, cursor: Cursor, topic: Topic) -> tuple[dict[int, int], dict[int, int]]:
        """The mart's next offsets, and where to read each partition from."""
        check_topic(cursor, topic)
        next_offsets = read_next_offsets(cursor, topic)
        return next_offsets, starting_offsets(next_offsets, topic, self.options.accept_gap)

    @contextmanager
    def prepare(self, spark: SparkSession) -> Iterator[ApplySession]:
        """Take over the topic and read it from the mart's next offsets."""
        settings = self.settings
        with self.topic() as (topic, admin):
            with self._mart() as connection, connection, connection.cursor() as cursor:
                with self.options.phases()("take over"):
                    writer = take_over(cursor, topic, application_name())
                next_offsets, start = self._begin(cursor, topic)
                report_gaps(self.name, next_offsets, start)
                advance(cursor, writer, {p: at for p, at in start.items() if next_offsets.get(p) != at})
                adopt_rules(cursor, settings)
            report_reading(self.name, topic, start, epoch=writer.epoch)
            lag = Lag(Brokers.of(settings), topic, start)
            self.metrics.follow(lag)
            yield ApplySession(topic, admin, self.read(spark, topic, start), writer, lag)

    def process(self, session: ApplySession, records: DataFrame, covered: Covered) -> None:
        """Parse, clean and apply one micro-batch of Kafka records, retrying while PostgreSQL is unavailable."""
        for part, phases in self.slices(session, records, covered, cleaning(self.settings)):
            raw_values = partial(_raw_values, part.records)
            for attempt in self.patiently():
                with attempt, self._mart() as connection:
                    applied = apply_batch(connection, session.writer, part.rows, raw_values, part.covered, phases)
            session.lag.advance(applied.next_offsets)
            report_applied(applied, session.writer, phases, self.metrics)

    def look_after(self) -> None:
        """Check all scores when due, and thin out the history once an hour."""
        settings = self.settings
        try:
            with self._mart() as connection:
                if self.options.check_every and self.committed_batches % self.options.check_every == 0:
                    check_scores(connection)
                if time.monotonic() - self._thinned_at > _THIN_SECONDS:
                    thin_history(connection, settings.history_minutes_days, settings.history_hours_days)
                    self._thinned_at = time.monotonic()
        except UnavailableError as error:  # the next batch waits for PostgreSQL
            log.warning("scores not checked", reason=str(error))

    def check_topic(self, session: ApplySession, topic: Topic) -> None:  # noqa: ARG002
        with self._mart() as connection, connection, connection.cursor() as cursor:
            check_topic(cursor, topic)

    def check_superseded(self, session: ApplySession) -> None:
        with self._mart() as connection, connection, connection.cursor() as cursor:
            check_fence(cursor, session.writer)

    def close(self) -> None:
        self._locks.close()
        self._disconnect()
        self.metrics.follow(None)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @contextmanager
    def _mart(self) -> Iterator[Writing]:
        """The connection to the mart, reopened if it broke. A long wait for a lock within the block is logged, and
        ended by a stop signal. Raises UnavailableError if PostgreSQL fails meanwhile."""
        try:
            with answering():
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self.settings.require_mart())
                with self._locks.watching(self._connection):
                    yield self._connection
        except UnavailableError:
            self._disconnect()
            raise


def cleaning(settings: Settings) -> Step:
    """What the executors do with the records, by the shop's settings and conf/line_rules.toml."""
    return partial(
        parse_and_clean, zone=settings.zone, max_bytes=settings.max_message_bytes, admin_codes=frozenset(admin_codes())
    )


def _raw_values(records: DataFrame | pa.Table, coordinates: Collection[Coordinates]) -> dict[Coordinates, bytes]:
    """The values of some records of a slice, read again from Kafka if they are not here. It uses a join, because
    planning a condition that lists 40,000 of them takes longer than a minute, within the open transaction."""
    partitions, offsets = zip(*coordinates, strict=True)
    wanted = pa.table({"partition": pa.array(partitions, pa.int32()), "offset": pa.array(offsets, pa.int64())})
    if isinstance(records, pa.Table):
        rows = records.join(wanted, ["partition", "offset"], join_type="inner")
    else:
        places = F.broadcast(records.sparkSession.createDataFrame(wanted))
        rows = records.join(places, ["partition", "offset"]).select("partition", "offset", "value").toArrow()
    found = (rows[column].to_pylist() for column in ("partition", "offset", "value"))
    return {(partition, offset): value for partition, offset, value in zip(*found, strict=True)}
