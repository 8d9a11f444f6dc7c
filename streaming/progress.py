"""Progress: one log event a batch."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from streaming.apply import Applied
from streaming.positions import Writer

log = structlog.get_logger()


def report(applied: Applied, writer: Writer | None) -> None:
    """Log what a committed batch did: counts, milliseconds a phase, and how old its oldest and newest record are
    now that it is visible (milliseconds since the record's Kafka timestamp)."""
    now = datetime.now(UTC)
    log.info(
        "applied",
        epoch=writer.epoch if writer else None,
        invoices=applied.invoices,
        duplicates=applied.duplicates,
        rejected=applied.rejected,
        skipped=applied.skipped,
        latency_ms_newest=_age_milliseconds(applied.newest_kafka_timestamp, now),
        latency_ms_oldest=_age_milliseconds(applied.oldest_kafka_timestamp, now),
        next_offsets=applied.next_offsets,
        ms=applied.milliseconds,
    )


def _age_milliseconds(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else round((now - moment).total_seconds() * 1000)
