"""The job that lands: Kafka → parse → land → the Delta table."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from conf.errors import UnavailableError
from conf.line_rules import admin_codes
from conf.postgres import answering
from conf.settings import Settings
from lake.erasure_list import copy_to_lake, lake_list
from lake.table import advance, check_topic, open_lake, reaching, read_positions
from mart.connection import connect
from mart.erasure_list import has_list, read_list
from mart.lock_watch import LockWatch
from streaming.clean import parse_to_land
from streaming.executors import Step
from streaming.job import Job, RunOptions
from streaming.land import land_batch
from streaming.progress import report_gaps, report_landed, report_reading
from streaming.read_topic import read_topic
from topic.describe import Topic
from topic.offsets import Covered, starting_offsets

_NICENESS = 10
_APPLICATION = "retail-mart landing"


class LandJob(Job):
    """Its state beside the query's: the topic, and the lake as it was at the last commit."""

    name = "land"
    trigger_seconds = 1  # how often to look; how long to wait for a full batch is LANDING_TRIGGER_SECONDS

    def __init__(self, settings: Settings, options: RunOptions, stopping: threading.Event) -> None:
        super().__init__(settings, options, stopping)
        self._topic: Topic | None = None
        self._table: DeltaTable | None = None
        self._checkpoint: Path | None = None

    def prepare(self, spark: SparkSession) -> tuple[DataFrame, str]:
        """Read the topic from the lake's positions, with a checkpoint folder of this start's own."""
        settings = self.settings
        topic = self.describe_topic()
        table = open_lake(settings.lake)
        with reaching(settings.lake):
            check_topic(table, topic)
            self._take_erasure_list(table)
            positions = read_positions(table, topic, topic.end_offsets)
            start = starting_offsets(positions, topic, self.options.accept_gap, "the lake")
            report_gaps(self.name, positions, start)
            if moved := {p: at for p, at in start.items() if positions.get(p) != at}:
                advance(table, topic, moved)
        self._topic, self._table = topic, table
        report_reading(self.name, topic, start, lake=settings.lake, version=table.version())
        patience = None if self.options.available_now else settings.landing_trigger_seconds
        records = read_topic(
            spark,
            settings.require_kafka(),
            topic,
            start,
            settings.max_invoices_per_batch,
            patience,
            settings.spark_kafka_security(),
            group=self.group,
        )
        return records, self._fresh_checkpoint()

    def process(self, records: DataFrame, covered: Covered) -> None:
        """Parse and land one micro-batch of Kafka records, trying again while the lake's storage is unavailable."""
        assert self._table is not None and self._topic is not None  # noqa: S101, PT018
        parse_start = time.perf_counter()
        settings = self.settings
        # One task leaves Spark's other slots to apply; its niceness leaves apply the processor, too.
        step = parsing(settings)
        for part in self.slices(records, covered, self._topic, step, one_task=True, niceness=_NICENESS):
            parse_milliseconds = round((time.perf_counter() - parse_start) * 1000, 1)
            for attempt in self.patiently():
                with attempt:
                    landed = land_batch(self._table, self._topic, part.rows, part.covered)
            landed.milliseconds = {"parse": parse_milliseconds, **landed.milliseconds}
            report_landed(landed)
            parse_start = time.perf_counter()

    def check_topic(self, topic: Topic) -> None:
        assert self._table is not None  # noqa: S101
        self._table.update_incremental()
        check_topic(self._table, topic)

    def _take_erasure_list(self, table: DeltaTable) -> None:
        """A new lake takes the mart's erasure list; from then on `erase` keeps its copy."""
        if self.settings.mart_dsn is None or lake_list(table) is not None:
            return
        locks = LockWatch(self.settings, self.stopping)
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
            raise UnavailableError(f"no erasure list for the new lake yet: {' '.join(str(error).split())}") from error
        finally:
            locks.close()

    def close(self) -> None:
        super().close()
        self._clear_checkpoint()

    def _clear_checkpoint(self) -> None:
        if self._checkpoint is not None:
            shutil.rmtree(self._checkpoint, ignore_errors=True)
        self._checkpoint = None

    def _fresh_checkpoint(self) -> str:
        """A checkpoint folder that no earlier start used: it begins where the lake says, whatever lies there."""
        self._clear_checkpoint()
        parent = f"{self.settings.checkpoints}/{self.settings.kafka_topic}"
        name = f"land-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if "://" not in parent:
            for earlier in Path(parent).glob("land-*-*"):  # of jobs that were killed
                pid = earlier.name.split("-")[1]
                if pid.isdigit() and not psutil.pid_exists(int(pid)):
                    shutil.rmtree(earlier, ignore_errors=True)
            self._checkpoint = Path(parent, name)
        return f"{parent}/{name}"


def parsing(settings: Settings) -> Step:
    """What the executors do with the records, by the shop's settings and conf/line_rules.toml."""
    return partial(
        parse_to_land, zone=settings.zone, max_bytes=settings.max_message_bytes, admin_codes=frozenset(admin_codes())
    )
