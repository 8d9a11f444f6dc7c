"""Slices: a micro-batch in parts that fit into memory, however large its records are.

Spark limits a micro-batch by a number of offsets, not bytes: forty thousand invoices are usually 20 MB, but may be 40
GB. So the executors stop when they have read enough, the part that they reached is stored with its own range of
offsets, and the rest is read again from there. A usual micro-batch is one slice and costs nothing extra.

A part that Spark's source fails on is read without Spark: otherwise one record with a timestamp out of Spark's range
would end the stream at every start, before our code has seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import structlog
from pyspark.sql import DataFrame

from streaming.executors import Collected, Step, UnreadableError, collect_up_to, no_records
from topic.offsets import Covered, spanned

log = structlog.get_logger()
MOST_BYTES = 64 * 1024**2
"""What a slice may weigh (executors.collect_up_to), and then one more Arrow batch of each task. Large enough that a
batch of MAX_INVOICES_PER_BATCH ordinary invoices is one slice; small enough for the heap of SPARK_DRIVER_MEMORY, where
Spark holds it some three times on its way to Python, for each of the two queries."""


@dataclass(frozen=True)
class Slice:
    """A part of a micro-batch: the rows that the step made, what they cover, and the records, to be read again, or as
    they were read if Spark cannot read them."""

    rows: pa.Table
    covered: Covered
    records: DataFrame | pa.Table


def slices(
    records: DataFrame,
    covered: Covered,
    step: Step,
    read_range: Callable[[Covered], DataFrame],
    consume_range: Callable[[Covered, int], tuple[pa.Table, bool]],
    most_bytes: int = MOST_BYTES,
    niceness: int = 0,
    tasks: int | None = None,
) -> Iterator[Slice]:
    """The micro-batch that `covered` describes, in slices, in order within each partition, to its end.

    `records` are all of it, `read_range` reads a part of it; `consume_range` does so without Spark, up to a number of
    bytes of values, and says whether that was all. `tasks`: how many tasks read them, by default one per partition. A
    slice is read only after the previous one has been handled.
    """
    reached = {partition: first for partition, (first, _) in covered.items()}
    ends = {partition: end for partition, (_, end) in covered.items()}
    while covered:
        consumed: pa.Table | None = None
        try:
            found = collect_up_to(records, step, most_bytes // (tasks or len(covered)), niceness)
        except UnreadableError as unreadable:
            log.warning("reading without Spark, which fails at a record", reason=str(unreadable), covered=dict(covered))
            consumed, whole = consume_range(covered, most_bytes)
            found = Collected(_stepped(step, consumed), consumed.nbytes, whole)
        if not found.whole:
            # A partition's rows come in order: what is before the last one is dealt with, what is after it comes again.
            covered = {partition: (reached[partition], end) for partition, (_, end) in spanned(found.rows).items()}
            if consumed is None:
                records = read_range(covered)
        yield Slice(found.rows, covered, records if consumed is None else consumed)
        reached |= {partition: end for partition, (_, end) in covered.items()}
        left = {partition: (reached[partition], end) for partition, end in ends.items() if reached[partition] < end}
        covered = _as_large_as_may_be(left, found, most_bytes)
        if covered:
            records = read_range(covered)


def _stepped(step: Step, records: pa.Table) -> pa.Table:
    """An empty table has no batches, but its rows still need their columns."""
    return pa.Table.from_batches([step(batch) for batch in records.to_batches() or [no_records()]])


def _as_large_as_may_be(left: Covered, found: Collected, most_bytes: int) -> Covered:
    """As much of the rest as fits into a slice if its records are as large as those found last: a task that has to stop
    costs its Python worker, and with it a second."""
    if not left or not found.weight:
        return left
    offsets = int(0.8 * most_bytes * found.rows.num_rows / found.weight) // len(left)
    return {partition: (first, min(end, first + max(1, offsets))) for partition, (first, end) in left.items()}
