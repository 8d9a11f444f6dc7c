"""Positions: who may write, and from where. The mart and the lake hold them, whatever a Spark checkpoint says.

A position is the end of what was covered, not the offset after the last record that was seen: after it there may be
offsets without a record (a transaction's marks, what it took back). So a batch is held to the ranges that it was read
from, and a batch without a record moves the positions, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import one_row, statement
from conf.errors import FencedError, GapError, TopicChangedError
from topic.offsets import Covered
from topic.describe import Topic


@dataclass(frozen=True)
class Writer:
    """The right to apply a topic: held by the job with the newest epoch."""

    topic: Topic
    epoch: int


def take_over(cursor: Cursor, topic: Topic, application: str) -> Writer:
    """Become the topic's writer; every older one is fenced from now on. Waits for its running transaction."""
    cursor.execute(statement("apply/take_over"), {"topic": topic.name, "application": application})
    return Writer(topic, *one_row(cursor))


def check_fence(cursor: Cursor, writer: Writer) -> None:
    """Lock the writer's row for this transaction. Raises FencedError if a newer job has taken over."""
    cursor.execute(statement("apply/fence"), {"topic": writer.topic.name})
    epoch, application, started_at = one_row(cursor)
    if epoch != writer.epoch:
        raise FencedError(
            f"fenced: this job is epoch {writer.epoch}, but {application} took over topic {writer.topic.name!r} "
            f"at {started_at:%Y-%m-%d %H:%M:%S%z} as epoch {epoch}; only one job may write, so this one stops"
        )


def read_positions(cursor: Cursor, topic: Topic) -> dict[int, int]:
    """The next offset to apply of each partition that the mart knows."""
    cursor.execute(statement("apply/select_positions"), {"topic_id": topic.topic_id})
    return dict(cursor.fetchall())


def check_topic(cursor: Cursor, topic: Topic) -> None:
    """Raise TopicChangedError if the mart holds positions of an earlier topic of this name."""
    cursor.execute(statement("apply/select_topic_ids"), {"topic": topic.name, "topic_id": topic.topic_id})
    others = [row[0] for row in cursor.fetchall()]
    if others:
        raise TopicChangedError(
            f"topic {topic.name!r} was re-created: it has id {topic.topic_id}, the mart's positions are of "
            f"{', '.join(others)}. If its new records are to be applied from the first on, run "
            "`python -m streaming rewind` once (invoices that are in the mart already are not counted again)"
        )


def starting_offsets(
    positions: Mapping[int, int], topic: Topic, accept_gap: bool = False, store: str = "the mart"
) -> dict[int, int]:
    """Where each partition is to be read from: the store's position, or the first record of a new partition.

    Raises GapError where the broker no longer holds the position (retention deleted unread records), unless
    `accept_gap`, and where the position lies past the end (the broker lost records that the mart has).
    """
    start = {}
    for partition, first in topic.first_offsets.items():
        position = positions.get(partition, first)
        if position < first and not accept_gap:
            raise GapError(
                f"topic {topic.name!r} partition {partition}: offsets {position} to {first - 1} "
                f"({first - position} records) were deleted by the broker before {store} had them. Replay them "
                "from their source, or go on without them: `python -m streaming run --accept-gap`"
            )
        if position > topic.end_offsets[partition]:
            raise GapError(
                f"topic {topic.name!r} partition {partition}: {store} is at offset {position}, but the broker "
                f"ends at {topic.end_offsets[partition]}: it has lost records. To read what it has again from the "
                "start (nothing is counted twice): `python -m streaming rewind`"
            )
        start[partition] = max(position, first)
    return start


def due_records(batch: pa.Table, covered: Covered, positions: Mapping[int, int], store: str = "the mart") -> pa.Table:
    """The rows of a batch that the store does not have: those at or after its positions.

    `batch` has columns partition and offset, `covered` says what it was read from. A partition without a position
    starts at 0. Raises GapError if a range begins after its partition's position.
    """
    keep = None
    for partition, (first, _) in sorted(covered.items()):
        position = positions.get(partition, 0)
        if first > position:
            raise GapError(
                f"partition {partition}: the batch starts at offset {first}, {store}'s position is {position}: "
                f"{first - position} offsets would be lost, so nothing of it is taken"
            )
        if first < position:
            stale = pc.and_(pc.equal(batch["partition"], partition), pc.less(batch["offset"], position))
            keep = pc.invert(stale) if keep is None else pc.and_(keep, pc.invert(stale))
    return batch if keep is None else batch.filter(keep)


def next_offsets(covered: Covered, positions: Mapping[int, int]) -> dict[int, int]:
    """Where the store is after what was covered: the end of each range that goes beyond its position."""
    return {p: end for p, (first, end) in covered.items() if first < end and end > positions.get(p, 0)}


def spanned(batch: pa.Table) -> dict[int, tuple[int, int]]:
    """What a batch covers if it is all that its partitions hold from its first row to its last."""
    spans = batch.group_by("partition").aggregate([("offset", "min"), ("offset", "max")])
    return {row["partition"]: (row["offset_min"], row["offset_max"] + 1) for row in spans.to_pylist()}


def advance(cursor: Cursor, writer: Writer, next_offsets: Mapping[int, int]) -> None:
    """Write the next offset to apply of each partition, in the caller's transaction."""
    for partition, next_offset in sorted(next_offsets.items()):
        cursor.execute(
            statement("apply/advance_position"),
            {
                "topic_id": writer.topic.topic_id,
                "topic": writer.topic.name,
                "partition": partition,
                "next_offset": next_offset,
                "epoch": writer.epoch,
            },
        )


def forget(cursor: Cursor, topic_name: str) -> None:
    """Forget where the topic was applied to, so that the next run reads it from its first record."""
    cursor.execute(statement("apply/forget_positions"), {"topic": topic_name})
