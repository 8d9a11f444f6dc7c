"""Status: what an operator asks first, on one screen."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from rich.filesize import decimal

from conf.counted import counted
from conf.errors import StreamingError, UnavailableError
from conf.postgres import answering
from conf.settings import Settings
from conf.terminal import Table, prose
from lake.files import size_of
from lake.table import find_lake
from mart import quarantine
from mart.connection import connect_to_read
from mart.status import Observed, observe
from sql import one_row, statement


@dataclass(frozen=True)
class Writer:
    """The streaming job: whether it is connected to the mart now; which one wrote last (None: none yet)."""

    connected: bool
    application: str | None
    started_at: datetime | None


@dataclass(frozen=True)
class Status:
    """One look. None: the mart does not show its `writer`, or the records that are `waiting` in quarantine (only
    MART_DSN sees those). `lake`: its state, or why that is unknown."""

    observed: Observed
    writer: Writer | None
    waiting: int | None
    lake: str

    @property
    def unavailable(self) -> bool:
        return bool(self.observed.broker_problem or self.observed.mart_problem)


def see(settings: Settings) -> Status:
    """Look once, as MART_READER_DSN. Whatever is unavailable is part of the answer. Raises SettingsError."""
    settings.require_kafka()
    settings.require_mart("reader")
    observed = observe(settings)
    writer = waiting = None
    if observed.mart_problem is None:
        with answering(), closing(connect_to_read(settings.require_mart("reader"), "retail-mart status")) as connection:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement("dashboards/status"))
                *_, application, started_at, connected = one_row(cursor)
            writer = Writer(connected, application, started_at)
        if settings.mart_dsn is not None:  # the quarantine holds customers' data, which a reader does not see
            with answering(), closing(connect_to_read(settings.require_mart(), "retail-mart status")) as connection:
                waiting = sum(count.records for count in quarantine.count(connection, settings.kafka_topic, []))
    return Status(observed, writer, waiting, _lake(settings.lake))


def describe(status: Status) -> Table:
    """The look as a table: what, how it is."""
    observed, unknown = status.observed, "unknown"
    table = Table("what", prose("how it is"), headed=False)
    table.add("Kafka", observed.broker_problem or "answers")
    table.add("mart", observed.mart_problem or "answers")
    table.add("job", unknown if status.writer is None else _job(status.writer, observed))
    table.add("lag", unknown if observed.lag is None else f"{counted(observed.lag, 'record')} not applied yet")
    table.add("last batch", _last_batch(observed) or unknown)
    table.add("quarantine", unknown if status.waiting is None else _quarantine(status.waiting))
    table.add("lake", status.lake)
    table.add("rules", _rules(observed) or unknown)
    for disk in observed.disks:
        free = f"{decimal(disk.free_bytes)} of {decimal(disk.size_bytes)} free ({disk.free_percent:.0f} %)"
        table.add(f"disk of the {disk.folder}", free)
    return table


def _job(writer: Writer, observed: Observed) -> str:
    if not writer.connected:
        return "not running: `retail-mart run` starts it"
    return f"has waited {observed.blocked}" if observed.blocked else f"running: {writer.application}"


def _quarantine(waiting: int) -> str:
    return counted(waiting, "record") + (": `retail-mart rejected list`" if waiting else "")


def _last_batch(observed: Observed) -> str | None:
    if observed.batches is None:
        return None
    if observed.batches.last_at is None or observed.batches.since_seconds is None:
        return "none yet"
    return f"{observed.batches.since_seconds:,.0f} s ago, at {observed.batches.last_at:%Y-%m-%d %H:%M:%S %Z}"


def _rules(observed: Observed) -> str | None:
    nightly = observed.nightly
    if nightly is None:
        return None
    if nightly.status is None:
        return "no run yet: `retail-mart mine`"
    reason = f": {nightly.reason}" if nightly.reason else ""
    return f"newest run {nightly.status}, for {nightly.business_date}{reason}"


def _lake(path: str) -> str:
    try:
        table = find_lake(path)
        if table is None:
            return f"none yet at {path}"
        files, size = size_of(table)
        return f"version {table.version()}, {counted(files, 'file')}, {decimal(size)}, at {path}"
    except (UnavailableError, StreamingError) as error:
        return str(error)
