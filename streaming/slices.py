"""Slices: a micro-batch in parts that fit into memory, however large its records are.

Spark bounds a micro-batch by a number of offsets, and not by bytes: forty thousand invoices are usually 20 MB, and may
be 40 GB. So the executors stop when they have read enough, the part that they came to is stored with its own range of
offsets, and the rest is read anew from there. The usual micro-batch is one slice and costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame

from streaming.executors import Step, collect_up_to
from streaming.positions import spanned
from streaming.source import Covered

MOST_BYTES = 48 * 1024**2
"""Of the values that a slice takes before it ends; and then the rows of one more Arrow batch of each task."""


@dataclass(frozen=True)
class Slice:
    """A part of a micro-batch: the rows that the step made, what they cover, and the records, to be read once more."""

    rows: pa.Table
    covered: Covered
    records: DataFrame


def slices(
    records: DataFrame,
    covered: Covered,
    step: Step,
    read_range: Callable[[Covered], DataFrame],
    most_bytes: int = MOST_BYTES,
    niceness: int = 0,
    tasks: int | None = None,
) -> Iterator[Slice]:
    """The micro-batch that `covered` says, in slices, in each partition in order, to its end.

    `records` are all of it, `read_range` reads a part of it. `tasks`: in how many tasks they are read, by default one a
    partition. A slice is read when the one before it has been dealt with.
    """
    while True:
        unread = sum(first < end for first, end in covered.values())
        rows, whole = collect_up_to(records, step, most_bytes // max(1, tasks or unread), niceness)
        if whole:
            yield Slice(rows, covered, records)
            return
        # A partition's rows come in order, so all before the last one is dealt with; what lies after it is read again.
        reached = {partition: end for partition, (_, end) in spanned(rows).items()}
        taken = {partition: (covered[partition][0], end) for partition, end in reached.items()}
        yield Slice(rows, taken, read_range(taken))
        covered = {partition: (reached.get(partition, first), end) for partition, (first, end) in covered.items()}
        records = read_range(covered)
