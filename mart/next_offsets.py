"""Next offsets: who may write, and from where. The mart and the lake hold them, independent of Spark's checkpoint.

A next offset is the end of what was covered, not the offset after the last record seen: there may be more offsets
without a record (a transaction's markers and aborted records). So a batch is checked against the ranges that it was
read from, and even a batch without records advances the next offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.errors import FencedError, TopicChangedError
from sql import one_row, statement
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


def read_next_offsets(cursor: Cursor, topic: Topic) -> dict[int, int]:
    """The next offset to apply of each partition that the mart knows."""
    cursor.execute(statement("apply/select_next_offsets"), {"topic_id": topic.topic_id})
    return dict(cursor.fetchall())


def check_topic(cursor: Cursor, topic: Topic) -> None:
    """Raise TopicChangedError if the mart's next offsets belong to an earlier topic of this name."""
    cursor.execute(statement("apply/select_topic_ids"), {"topic": topic.name, "topic_id": topic.topic_id})
    others = [row[0] for row in cursor.fetchall()]
    if others:
        raise TopicChangedError(
            f"topic {topic.name!r} was re-created: it has id {topic.topic_id}, the mart's next offsets are of "
            f"{', '.join(others)}. To apply its new records from the first one, run `retail-mart rewind` "
            "once (invoices that are already in the mart are not counted again)"
        )


def advance(cursor: Cursor, writer: Writer, next_offsets: Mapping[int, int]) -> None:
    """Write the next offset to apply of each partition, in the caller's transaction."""
    partitions, offsets = zip(*sorted(next_offsets.items()), strict=True) if next_offsets else ((), ())
    topic = {"topic_id": writer.topic.topic_id, "topic": writer.topic.name, "epoch": writer.epoch}
    moved = {"partitions": list(partitions), "next_offsets": list(offsets)}
    cursor.execute(statement("apply/advance_next_offsets"), topic | moved)


def forget(cursor: Cursor, topic_name: str) -> None:
    """Forget how far the topic was applied, so that the next run reads it from its first record."""
    cursor.execute(statement("apply/forget_next_offsets"), {"topic": topic_name})
