"""Offsets: which ones a batch covers, which of those a store has yet to take, and where the store is afterwards.

A store is the mart or the lake. Its next offset is the end of what was covered, not the offset after the last record
seen: there may be more offsets without a record (a transaction's markers and aborted records). So a batch is checked
against the ranges that it was read from, and even a batch without records advances the store's next offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from conf.counted import counted
from conf.errors import GapError, StreamingError
from topic.describe import Topic

Covered = Mapping[int, tuple[int, int]]
"""What a batch was read from: per partition the first offset, and the one after the last. Not every offset in it has a
record: a producer's transaction leaves its own marks between them, and what it took back is not read."""


def starting_offsets(
    next_offsets: Mapping[int, int], topic: Topic, accept_gap: bool = False, store: str = "the mart"
) -> dict[int, int]:
    """Where to read each partition from: the store's next offset, or the first record of a new partition.

    Raises GapError if the broker no longer holds the next offset (retention deleted unread records), unless
    `accept_gap`, and if the next offset is past the end (the broker lost records that the mart has).
    """
    start = {}
    for partition, first in topic.first_offsets.items():
        next_offset = next_offsets.get(partition, first)
        if next_offset < first and not accept_gap:
            raise GapError(
                f"topic {topic.name!r} partition {partition}: offsets {next_offset} to {first - 1} "
                f"({counted(first - next_offset, 'record')}) were deleted by the broker before {store} had them. "
                "Replay them from their source, or go on without them: `retail-mart run --accept-gap`"
            )
        if next_offset > topic.end_offsets[partition]:
            raise GapError(
                f"topic {topic.name!r} partition {partition}: {store} is at offset {next_offset}, but the broker "
                f"ends at {topic.end_offsets[partition]}: it has lost records. To read what it has again from the "
                "start (nothing is counted twice): `retail-mart rewind`"
            )
        start[partition] = max(next_offset, first)
    return start


def due_records(
    batch: pa.Table, covered: Covered, next_offsets: Mapping[int, int], store: str = "the mart"
) -> pa.Table:
    """The rows of a batch that the store does not have: those at or after its next offsets.

    `batch` has the columns partition and offset; `covered` says what it was read from. A partition without a next
    offset starts at 0. Raises GapError if a range begins after its partition's next offset, and StreamingError if a row
    is outside the ranges, because another batch would bring it again. An offset within a range that has no row cannot
    be recognised as a gap here: the reader fails if a record is gone.
    """
    keep = None
    for partition, (first, _) in sorted(covered.items()):
        next_offset = next_offsets.get(partition, 0)
        if first > next_offset:
            raise GapError(
                f"partition {partition}: the batch starts at offset {first}, {store}'s next offset is {next_offset}: "
                f"{counted(first - next_offset, 'offset')} would be lost, so nothing of it is taken. Start the job "
                f"again: it goes on where {store} is"
            )
        if first < next_offset:
            stale = pc.and_(pc.equal(batch["partition"], partition), pc.less(batch["offset"], next_offset))
            keep = pc.invert(stale) if keep is None else pc.and_(keep, pc.invert(stale))
    for partition, (first, end) in spanned(batch).items():
        planned = covered.get(partition, (0, 0))
        if first < planned[0] or end > planned[1]:
            raise StreamingError(
                f"partition {partition}: the batch has offsets {first} to {end - 1}, but was read from the range "
                f"{planned[0]} to {planned[1] - 1}: nothing of it is taken. This is a bug, please report it"
            )
    return batch if keep is None else batch.filter(keep)


def advanced(covered: Covered, next_offsets: Mapping[int, int]) -> dict[int, int]:
    """The store's next offsets after what was covered: the end of each range that goes beyond them."""
    return {p: end for p, (first, end) in covered.items() if first < end and end > next_offsets.get(p, 0)}


def spanned(batch: pa.Table) -> dict[int, tuple[int, int]]:
    """What a batch covers if it is everything that its partitions hold between its first and its last row."""
    spans = batch.group_by("partition").aggregate([("offset", "min"), ("offset", "max")])
    return {row["partition"]: (row["offset_min"], row["offset_max"] + 1) for row in spans.to_pylist()}


def behind(
    next_offsets: Mapping[int, int], ends: Mapping[int, int], first: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Lag: for each partition, the records before `ends` that a store has not taken. A partition that it does not know
    starts at its `first` record, otherwise at 0."""
    known = {**(first or {}), **next_offsets}
    return {p: max(0, end - known.get(p, 0)) for p, end in sorted(ends.items())}


def in_words(next_offsets: Iterable[tuple[str, int, int]]) -> str:
    """Where a store resumes, for each topic and partition: `topic invoices, next offset 17 (partition 0)`."""
    topics = groupby(sorted(next_offsets), key=lambda each: each[0])
    return "; ".join(f"topic {topic}, {_listed([(p, at) for _, p, at in each])}" for topic, each in topics)


def _listed(partitions: list[tuple[int, int]]) -> str:
    noun = "next offset" if len(partitions) == 1 else "next offsets"
    return f"{noun} {', '.join(f'{at} (partition {p})' for p, at in partitions)}"
