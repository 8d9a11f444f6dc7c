"""Progress: one log event a batch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from mart.positions import Writer
from streaming import metrics
from streaming.apply import Applied
from streaming.lag import Lag
from streaming.land import Landed
from topic.describe import Topic

log = structlog.get_logger()


def report_reading(query: str, topic: Topic, start: Mapping[int, int], **more: object) -> None:
    """Log where a query begins to read, and how many records it is behind the topic's end."""
    lag = sum(topic.end_offsets[partition] - offset for partition, offset in start.items())
    log.info("reading", query=query, topic=topic.name, start=dict(start), lag=lag, **more)


def report_gaps(query: str, positions: Mapping[int, int], start: Mapping[int, int]) -> None:
    """Warn of each partition that is read from after its position: --accept-gap gave up the records between."""
    for partition in sorted(positions.keys() & start.keys()):
        if start[partition] > positions[partition]:
            lost = start[partition] - positions[partition]
            log.warning("accepted a gap", query=query, partition=partition, lost=lost)


def report_applied(applied: Applied, writer: Writer, lag: Lag) -> None:
    """Log and count what a committed batch did: its id in mart.batch, counts, milliseconds a phase, how old its oldest
    and newest record are now that it is visible (milliseconds since the record's Kafka timestamp; of those that tell
    it, None if no one does), and the lag: records of the topic that are not applied yet, None while the broker does not
    say."""
    now = datetime.now(UTC)
    metrics.count_applied(applied, now)
    lag.advance(applied.next_offsets)
    log.info(
        "applied",
        epoch=writer.epoch,
        mart_batch=applied.mart_batch,
        invoices=applied.invoices,
        duplicates=applied.duplicates,
        rejected=applied.rejected,
        ahead_of_clock=applied.ahead_of_clock,
        skipped=applied.skipped,
        lag=lag.total(),
        latency_ms_newest=_age_milliseconds(applied.newest_kafka_timestamp, now),
        latency_ms_oldest=_age_milliseconds(applied.oldest_kafka_timestamp, now),
        next_offsets=applied.next_offsets,
        ms=applied.milliseconds,
    )


def report_landed(landed: Landed) -> None:
    """Log and count what a batch added to the lake: rows, files, the version of its commit, milliseconds a phase, and
    the positions that it moved. `skipped` records were in the lake before: another job landed them."""
    metrics.count_landed(landed, datetime.now(UTC))
    log.info(
        "landed",
        rows=landed.rows,
        rejected=landed.rejected,
        skipped=landed.skipped,
        files=landed.files,
        version=landed.version,
        next_offsets=landed.next_offsets,
        ms=landed.milliseconds,
    )


def _age_milliseconds(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else round((now - moment).total_seconds() * 1000)
