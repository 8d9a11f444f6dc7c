"""Progress: one log event per batch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from conf.phases import Phases
from mart.next_offsets import Writer
from streaming.apply import Applied
from streaming.land import Landed
from streaming.metrics import Metrics
from topic.describe import Topic
from topic.offsets import behind

log = structlog.get_logger()


def report_reading(query: str, topic: Topic, start: Mapping[int, int], **more: object) -> None:
    """Log where a query begins to read, and how many records it is behind the topic's end."""
    lag = sum(behind(start, topic.end_offsets).values())
    log.info("reading", query=query, topic=topic.name, start=dict(start), lag=lag, **more)


def report_gaps(query: str, next_offsets: Mapping[int, int], start: Mapping[int, int]) -> None:
    """Warn about each partition that is read from after its next offset: --accept-gap gave up the records in
    between."""
    for partition in sorted(next_offsets.keys() & start.keys()):
        if start[partition] > next_offsets[partition]:
            lost = start[partition] - next_offsets[partition]
            log.warning("accepted a gap", query=query, partition=partition, lost=lost)


def report_applied(applied: Applied, writer: Writer, phases: Phases, metrics: Metrics) -> None:
    """Log and count what a committed batch did: its id in mart.batch, counts, milliseconds per phase, and the age of
    its oldest and newest record now that they are visible (milliseconds since the record's Kafka timestamp; only from
    timestamps that are usable, None if there are none)."""
    now = datetime.now(UTC)
    metrics.count_applied(applied, phases, now)
    log.info(
        "applied",
        epoch=writer.epoch,
        mart_batch=applied.mart_batch,
        invoices=applied.invoices,
        duplicates=applied.duplicates,
        rejected=applied.rejected,
        ahead_of_clock=applied.ahead_of_clock,
        skipped=applied.skipped,
        latency_ms_newest=_age_milliseconds(applied.newest_kafka_timestamp, now),
        latency_ms_oldest=_age_milliseconds(applied.oldest_kafka_timestamp, now),
        next_offsets=applied.next_offsets,
        ms=phases.milliseconds(),
    )


def report_landed(landed: Landed, phases: Phases, metrics: Metrics) -> None:
    """Log and count what a batch added to the lake: rows, files, the version of its commit, milliseconds per phase, and
    the next offsets that it advanced. `skipped` records were in the lake before: another job landed them."""
    metrics.count_landed(landed, phases, datetime.now(UTC))
    log.info(
        "landed",
        rows=landed.rows,
        rejected=landed.rejected,
        skipped=landed.skipped,
        files=landed.files,
        version=landed.version,
        next_offsets=landed.next_offsets,
        ms=phases.milliseconds(),
    )


def _age_milliseconds(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else round((now - moment).total_seconds() * 1000)
