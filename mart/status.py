"""Status: the current state of the stream, the nightly job and the disks, from the servers and this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from conf.errors import OperatorError, UnavailableError
from conf.kafka import Brokers
from conf.lake_storage import local_folder
from conf.postgres import FAILURES, answering
from conf.settings import Settings
from mart.connection import connect_to_read
from mart.locks import PATIENCE_SECONDS, LockWait, read_wait
from mart.reject_reason import RejectReason
from sql import one_row, statement
from topic.describe import Topic, describe_topic, written_at
from topic.offsets import behind

_PATIENCE_SECONDS = 15.0  # a restarting server is not worth an alert


@dataclass(frozen=True)
class Batches:
    """The committed batches of a topic: when the last one was committed, and how long ago by the mart's clock (None:
    none yet); records and rejected records within the requested window."""

    last_at: datetime | None
    since_seconds: float | None
    records: int
    rejected: int


class RunStatus(StrEnum):
    """The outcome of a run of the rules: mart.rule_run.status."""

    PUBLISHED = "published"
    KEPT_BACK = "kept back"


@dataclass(frozen=True)
class Nightly:
    """The nightly job: status (None: no run yet), reason, business date and time of its newest run; when rules were
    last published (None: never); since when new ones are due, and for how many hours."""

    status: RunStatus | None
    reason: str | None
    business_date: date | None
    run_at: datetime | None
    published_at: datetime | None
    waiting_since: datetime
    waiting_hours: float


@dataclass(frozen=True)
class Disk:
    """The disk that a folder is on; `size_bytes` excludes what is reserved for root, as in `df`."""

    folder: str
    path: Path
    free_bytes: int
    size_bytes: int

    @property
    def free_percent(self) -> float:
        return 100 * self.free_bytes / self.size_bytes


@dataclass(frozen=True)
class Observed:
    """One look. If a server did not answer, the reason is in `broker_problem` or `mart_problem`, and everything that
    depends on it is None.

    - `blocked`: what the job waits for, if it has waited for a lock in the mart for 10 s or longer.
    - `lag`: records of the topic that are not applied; `waiting`: those of them produced longer than
      ALERT_STALE_SECONDS ago. Both need broker and mart.
    - `held`: equally old records in or behind a transaction that a producer has left open: the job does not get them,
      and no lag counts them.
    - `failed`: records in quarantine as internal_error.
    - `ahead`: invoices dated later than PostgreSQL's clock allows.
    - `wrong_scores`: what the newest check found.
    - `unwatched`: what has no disk to look at.
    """

    broker_problem: str | None = None
    mart_problem: str | None = None
    batches: Batches | None = None
    nightly: Nightly | None = None
    blocked: LockWait | None = None
    lag: int | None = None
    waiting: int | None = None
    held: int | None = None
    failed: int | None = None
    ahead: int | None = None
    wrong_scores: int | None = None
    disks: tuple[Disk, ...] = ()
    unwatched: str | None = None


def observe(settings: Settings) -> Observed:
    """Look once, as MART_READER_DSN. A server that is unavailable, or not set, is part of the answer; nothing is raised
    for it."""
    broker_problem = mart_problem = None
    found = Observed()
    try:
        topic, written = _ask_broker(settings)
    except (UnavailableError, OperatorError) as error:
        broker_problem, topic, written = str(error), None, {}
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_delay(_PATIENCE_SECONDS),
            wait=wait_fixed(1),
            reraise=True,
        ):
            with (
                attempt,
                answering(),
                closing(connect_to_read(settings.require_mart("reader"), "retail-mart watch")) as connection,
            ):
                found = _ask_mart(settings, connection, topic, written)
    except (*FAILURES, OperatorError) as error:
        mart_problem = " ".join(str(error).split())
    return replace(
        found,
        broker_problem=broker_problem,
        mart_problem=mart_problem,
        disks=disks(settings),
        unwatched=_unwatched(settings),
    )


def read_long_wait(connection: Connection) -> LockWait | None:
    """What the job waits for, if it has waited for a lock long enough to report it."""
    with connection, connection.cursor() as cursor:
        wait = read_wait(cursor)
    return wait if wait is not None and wait.seconds >= PATIENCE_SECONDS else None


def read_batches(connection: Connection, topic: str, minutes: int) -> Batches:
    """The topic's last batch, and what became of the records of the last `minutes`."""
    last_at, since_seconds = read_last_batch(connection, topic)
    records, rejected = _ask(connection, "rejects", topic=topic, minutes=minutes)
    return Batches(last_at, since_seconds, records, rejected)


def read_last_batch(connection: Connection, topic: str) -> tuple[datetime | None, float | None]:
    """When the topic's last batch was committed, and how many seconds ago by the mart's clock (None: none yet)."""
    last_at, since_seconds = _ask(connection, "stream", topic=topic)
    return last_at, since_seconds


def read_nightly(connection: Connection) -> Nightly:
    """The nightly job, as far as the mart knows: a run that died before it could write leaves no trace there."""
    status, *rest = _ask(connection, "nightly")
    return Nightly(None if status is None else RunStatus(status), *rest)


def read_wrong_scores(connection: Connection) -> int:
    """Scores, cuts and totals that the newest check found wrong."""
    [wrong] = _ask(connection, "wrong_scores")
    return int(wrong)


def count_segments(connection: Connection) -> dict[str, int]:
    """Customers in each segment."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("apply/count_segments"))
        return dict(cursor.fetchall())


def disks(settings: Settings) -> tuple[Disk, ...]:
    """The disks of lake and checkpoints, if they are folders of this machine."""
    return tuple(
        Disk(folder, path, usage.free, usage.used + usage.free)
        for folder, place in (("lake", settings.lake), ("checkpoint", settings.checkpoints))
        for here in [local_folder(place)]
        if here is not None
        for path in [_existing(here)]
        for usage in [shutil.disk_usage(path)]
    )


def _unwatched(settings: Settings) -> str | None:
    if local_folder(settings.lake) is not None:
        return None
    return f"the lake is at {settings.lake}: its free space cannot be watched from here"


def _ask_broker(settings: Settings) -> tuple[Topic, dict[int, int]]:
    """The topic, and the offset that each partition had reached ALERT_STALE_SECONDS ago."""
    brokers = Brokers.of(settings)
    brokers = replace(brokers, timeout_seconds=min(brokers.timeout_seconds, _PATIENCE_SECONDS))
    topic = describe_topic(brokers, settings.kafka_topic)
    earlier = datetime.now(UTC) - timedelta(seconds=settings.alert_stale_seconds)
    return topic, written_at(brokers, topic, earlier)


def _ask_mart(settings: Settings, connection: Connection, topic: Topic | None, written: Mapping[int, int]) -> Observed:
    """What the mart knows; with the broker's answer, also how far it is behind."""
    [failed] = _ask(connection, "failed", reason=RejectReason.INTERNAL_ERROR.value)
    [ahead] = _ask(connection, "ahead")
    found = Observed(
        batches=read_batches(connection, settings.kafka_topic, settings.alert_reject_minutes),
        nightly=read_nightly(connection),
        blocked=read_long_wait(connection),
        failed=failed,
        ahead=ahead,
        wrong_scores=read_wrong_scores(connection),
    )
    if topic is None:
        return found
    next_offsets, standing = _read_next_offsets(connection, topic)
    first, ends = topic.first_offsets, topic.end_offsets
    old = {p: min(at, ends[p]) for p, at in written.items()}
    return replace(
        found,
        lag=sum(behind(next_offsets, ends, first).values()),
        waiting=sum(behind(next_offsets, old, first).values()),
        held=_held(topic, standing, written, settings.alert_stale_seconds),
    )


def _read_next_offsets(connection: Connection, topic: Topic) -> tuple[dict[int, int], dict[int, float]]:
    """Each partition's next offset, and for how many seconds it has not moved."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("observe/next_offsets"), {"topic_id": topic.topic_id})
        found = cursor.fetchall()
    return {p: at for p, at, _ in found}, {p: seconds for p, _, seconds in found}


def _held(topic: Topic, standing: Mapping[int, float], written: Mapping[int, int], patience_seconds: float) -> int:
    """Records that were written long ago and are beyond the end of what is committed. Partitions that have moved
    meanwhile are left out: their transactions come and go, and a record's timestamp may be older than the record."""
    return sum(
        max(0, at - topic.end_offsets[p]) for p, at in written.items() if standing.get(p, inf) >= patience_seconds
    )


def _ask(connection: Connection, name: str, **parameters: Any) -> tuple[Any, ...]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement(f"observe/{name}"), parameters)
        return one_row(cursor)


def _existing(path: Path) -> Path:
    """The folder, or the nearest existing one above it."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
