"""Quarantine: records that were not applied, with reason, raw bytes and coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import Binary
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from sql import statement
from streaming.reject_reason import RejectReason
from streaming.source import Topic


@dataclass(frozen=True)
class Rejected:
    """One record that was not applied. `raw` is its value, byte for byte; None where it had none."""

    partition: int
    offset: int
    kafka_timestamp: datetime
    reason: RejectReason
    detail: str
    raw: bytes | None


def quarantine(cursor: Cursor, topic: Topic, rejected: Iterable[Rejected]) -> None:
    """Write the records, in the caller's transaction. One that is there already stays as it is."""
    rows = [
        (
            topic.topic_id,
            topic.name,
            r.partition,
            r.offset,
            r.kafka_timestamp,
            r.reason.value,
            r.detail,
            None if r.raw is None else Binary(r.raw),
        )
        for r in rejected
    ]
    execute_values(cursor, statement("apply/quarantine"), rows, page_size=500)
