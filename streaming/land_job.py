"""The job that lands: Kafka → parse → land → the Delta table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from conf.errors import UnavailableError
from conf.line_rules import admin_codes
from conf.postgres import answering
from conf.settings import Settings
from lake.erasure_list import copy_to_lake, lake_list
from lake.table import advance, find_lake, open_lake, reaching, read_next_offsets, record_topic
from mart.connection import connect
from mart.erasure_list import has_list, read_list
from mart.lock_watch import LockWatch
from streaming.clean import parse_to_land
from streaming.executors import Step
from streaming.job import Job, Session
from streaming.land import land_batch
from streaming.progress import report_gaps, report_landed, report_reading
from topic.describe import Topic
from topic.offsets import Covered, starting_offsets

_NICENESS = 10
_APPLICATION = "retail-mart landing"


@dataclass(frozen=True)
class LandSession(Session):
    """Adds the lake, as of the last commit."""

    table: DeltaTable


class LandJob(Job[LandSession]):
    """It keeps nothing between its starts."""

    name = "land"
    trigger_seconds = 1  # how often to look; how long to wait for a full batch is LANDING_TRIGGER_SECONDS

    def check(self) -> None:
        settings = self.settings
        with self.topic() as (topic, _):
            table = find_lake(settings.lake)  # `prepare` makes one
            if table is not None:
                with reaching(settings.lake):
                    self._begin(table, topic)

    def _begin(self, table: DeltaTable, topic: Topic) -> tuple[dict[int, int], dict[int, int]]:
        """The lake's next offsets, and where to read each partition from."""
        next_offsets = read_next_offsets(table, topic, topic.end_offsets)
        return next_offsets, starting_offsets(next_offsets, topic, self.options.accept_gap, "the lake")

    @contextmanager
    def prepare(self, spark: SparkSession) -> Iterator[LandSession]:
        """Read the topic from the lake's next offsets."""
        settings = self.settings
        with self.topic() as (topic, admin):
            table = open_lake(settings.lake)
            with reaching(settings.lake):
                record_topic(table, topic)
                self._take_erasure_list(table)
                next_offsets, start = self._begin(table, topic)
                report_gaps(self.name, next_offsets, start)
                if moved := {p: at for p, at in start.items() if next_offsets.get(p) != at}:
                    advance(table, topic, moved)
            report_reading(self.name, topic, start, lake=settings.lake, version=table.version())
            patience = None if self.options.available_now else settings.landing_trigger_seconds
            yield LandSession(topic, admin, self.read(spark, topic, start, patience), table)

    def process(self, session: LandSession, records: DataFrame, covered: Covered) -> None:
        """Parse and land one micro-batch of Kafka records, retrying while the lake's storage is unavailable."""
        # One task leaves Spark's other slots to apply; its niceness leaves apply the processor too.
        step = parsing(self.settings)
        for part, phases in self.slices(session, records, covered, step, one_task=True, niceness=_NICENESS):
            for attempt in self.patiently():
                with attempt:
                    landed = land_batch(session.table, session.topic, part.rows, part.covered, phases)
            report_landed(landed, phases, self.metrics)

    def check_topic(self, session: LandSession, topic: Topic) -> None:
        session.table.update_incremental()
        record_topic(session.table, topic)

    def _take_erasure_list(self, table: DeltaTable) -> None:
        """A new lake takes over the mart's erasure list; from then on `erase` maintains the lake's copy."""
        if self.settings.mart_dsn is None or lake_list(table) is not None:
            return
        locks = LockWatch(self.settings, self.stopping, self.metrics.lock_wait.set)
        try:
            with (
                closing(connect(self.settings.require_mart(), _APPLICATION)) as connection,
                answering(),
                locks.watching(connection),
                connection,
                connection.cursor() as cursor,
            ):
                if not has_list(cursor):  # no mart yet, so nobody was erased
                    return
                listed = read_list(cursor)
            copy_to_lake(table, listed)
        except UnavailableError as error:
            raise UnavailableError(f"the new lake has no erasure list yet: {' '.join(str(error).split())}") from error
        finally:
            locks.close()


def parsing(settings: Settings) -> Step:
    """What the executors do with the records, by the shop's settings and conf/line_rules.toml."""
    return partial(
        parse_to_land, zone=settings.zone, max_bytes=settings.max_message_bytes, admin_codes=frozenset(admin_codes())
    )
