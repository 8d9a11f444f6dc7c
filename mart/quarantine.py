"""Quarantine: records that were not applied, with reason, raw bytes and coordinates."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg2 import Binary
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from conf.errors import StreamingError, UsageError
from mart.reject_reason import RejectReason
from sql import statement
from topic.describe import Topic
from topic.moment import EARLIEST, LATEST

_COORDINATES = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Rejected:
    """One record that was not applied. `raw` is its value, byte for byte; None if it had none, and if it belongs to a
    customer who was `erased`."""

    partition: int
    offset: int
    kafka_timestamp: datetime
    reason: RejectReason
    detail: str
    raw: bytes | None
    erased: bool = False


@dataclass(frozen=True)
class Quarantined:
    """One row of mart.rejected_invoice. `outcome` and `settled_at` are None until it is settled."""

    topic_id: str
    partition: int
    offset: int
    kafka_timestamp: datetime
    reason: RejectReason
    detail: str
    raw: bytes | None
    rejected_at: datetime
    outcome: str | None
    settled_at: datetime | None

    @property
    def coordinates(self) -> str:
        """In the form that the commands take: partition and offset."""
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Count:
    """Records quarantined for one reason with one outcome (None: not settled), and when the newest arrived."""

    reason: RejectReason
    outcome: str | None
    records: int
    newest_at: datetime


def quarantine(cursor: Cursor, topic: Topic, rejected: Iterable[Rejected]) -> None:
    """Write the records, in the caller's transaction. A record that is already there stays as it is.

    Whatever is wrong with a record, it can be written here: a timestamp out of range becomes the earliest or latest one
    that can be read back in every zone, and a character that a text column cannot hold is escaped.
    """
    rows = [
        (
            topic.topic_id,
            topic.name,
            r.partition,
            r.offset,
            min(max(r.kafka_timestamp, EARLIEST), LATEST),
            r.reason.value,
            _storable(r.detail),
            None if r.raw is None else Binary(r.raw),
            "erased" if r.erased else None,
            datetime.now(UTC) if r.erased else None,
        )
        for r in rejected
    ]
    execute_values(cursor, statement("apply/quarantine"), rows, page_size=500)


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", errors="backslashreplace").decode()


def count(connection: Connection, topic: str, reasons: Collection[RejectReason], settled: bool = False) -> list[Count]:
    """How many of a topic's records are in quarantine for each reason (of `reasons`, if any), with `settled` also
    settled ones."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("rejected/count"), _chosen(topic, reasons, settled))
        return [Count(RejectReason(reason), *rest) for reason, *rest in cursor.fetchall()]


def newest(
    connection: Connection, topic: str, reasons: Collection[RejectReason], settled: bool = False, limit: int = 20
) -> list[Quarantined]:
    """The newest quarantined records of a topic, newest first."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("rejected/newest"), {**_chosen(topic, reasons, settled), "newest": limit})
        return quarantined(cursor)


def find(connection: Connection, topic: str, coordinates: str) -> Quarantined:
    """The record at `partition:offset`. Raises StreamingError if there is none in quarantine."""
    [checked] = check_coordinates([coordinates])
    partition, offset = map(int, checked.split(":"))
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("rejected/one"), {"topic": topic, "partition": partition, "offset": offset})
        found = quarantined(cursor)
    if not found:
        raise StreamingError(f"no record {checked} of topic {topic!r} in quarantine: see `retail-mart rejected list`")
    return found[0]


def quarantined(cursor: Cursor) -> list[Quarantined]:
    """The rows of a query that selects mart.rejected_invoice's columns."""
    return [
        Quarantined(topic_id, p, o, at, RejectReason(reason), detail, None if raw is None else bytes(raw), *rest)
        for topic_id, p, o, at, reason, detail, raw, *rest in cursor.fetchall()
    ]


def _chosen(topic: str, reasons: Collection[RejectReason], settled: bool) -> dict[str, Any]:
    return {"topic": topic, "reasons": [r.value for r in reasons] or None, "settled": settled}


def check_coordinates(coordinates: Iterable[str]) -> list[str]:
    """Coordinates as a person gave them, `partition:offset` each, in one spelling. Raises UsageError for anything
    else."""
    checked = []
    for given in coordinates:
        match = _COORDINATES.fullmatch(given)
        if match is None:
            raise UsageError(
                f"{given!r} is not a valid record: give partition:offset, like 0:17, as `rejected list` shows them"
            )
        checked.append(f"{int(match[1])}:{int(match[2])}")
    return checked
