"""Slices of a micro-batch, without Spark; with it: tests/integration/test_kafka.py."""

import pyarrow as pa
import pytest

from streaming import slices as slices_module
from streaming.executors import Collected, UnreadableError
from streaming.slices import slices
from tests.builders.coordinates import batch
from topic.record import RECORD_SCHEMA


@pytest.fixture
def read(monkeypatch):
    """What is read, in order: the ranges, and the bytes that each task may read. It finds what `found` says: what Spark
    read, or, where it cannot, what was read without it."""

    class Reads:
        found: list[Collected | tuple[pa.Table, bool]]
        asked: list

        def slices(self, covered, *found, **options):
            self.found, self.asked = list(found), []
            parts = list(slices(covered, covered, lambda batch: batch, dict, self.consume, 1000, **options))
            assert not self.found
            return parts

        def consume(self, covered, most_bytes):
            self.asked.append((covered, most_bytes))
            return self.found.pop(0)

    reads = Reads()

    def collect_up_to(records, _step, most_bytes, _niceness):
        if isinstance(reads.found[0], tuple):
            raise UnreadableError("long overflow")
        reads.asked.append((records, most_bytes))
        return reads.found.pop(0)

    monkeypatch.setattr(slices_module, "collect_up_to", collect_up_to)
    return reads


def rows(partition, *offsets):
    return [(partition, offset) for offset in offsets]


def test_a_batch_that_is_not_large_is_one_slice(read):
    covered = {0: (0, 11), 1: (5, 8)}
    [part] = read.slices(covered, Collected(batch(*rows(0, 1, 2), *rows(1, 6)), 900, True))
    assert (part.covered, part.records) == (covered, covered)
    assert read.asked == [(covered, 500)]


def test_a_batch_without_a_record_is_one_slice_too(read):
    [part] = read.slices({0: (0, 11)}, Collected(batch(), 0, True))
    assert part.covered == {0: (0, 11)}


def test_slices_end_with_their_last_rows_and_together_cover_the_batch(read):
    parts = read.slices(
        {0: (0, 11), 1: (5, 8)},
        Collected(batch(*rows(0, 0, 2)), 1000, False),  # of partition 1 nothing was reached
        Collected(batch(*rows(0, 3)), 600, True),  # one offset of each was asked for
        Collected(batch(*rows(0, 4)), 50, True),  # small: so more of them
        Collected(batch(*rows(0, 6, 9)), 1000, False),
        Collected(batch(*rows(1, 7)), 400, True),
    )
    assert [part.covered for part in parts] == [
        {0: (0, 3)},
        {0: (3, 4), 1: (5, 6)},
        {0: (4, 5), 1: (6, 7)},
        {0: (5, 10)},
        {0: (10, 11), 1: (7, 8)},
    ]
    assert all(part.records == part.covered for part in parts)
    assert read.asked[3] == ({0: (5, 11), 1: (7, 8)}, 500)


def test_one_task_reads_all_partitions_within_the_bound(read):
    parts = read.slices({0: (0, 3), 1: (5, 8)}, Collected(batch(*rows(0, 0)), 9, True), tasks=1)
    assert len(parts) == 1
    assert read.asked == [({0: (0, 3), 1: (5, 8)}, 1000)]


def test_what_spark_cannot_read_is_read_without_it_and_the_rest_with_it(read):
    consumed = pa.table(
        {"value": [b"x" * 900, b"x" * 200], "partition": [0, 0], "offset": [3, 5], "timestamp": [0, 0]}
    ).cast(RECORD_SCHEMA)
    covered = {0: (0, 11), 1: (5, 8)}
    parts = read.slices(covered, (consumed, False), Collected(batch((1, 7)), 9, True), Collected(batch(), 0, True))
    assert [part.covered for part in parts] == [{0: (0, 6)}, {0: (6, 7), 1: (5, 6)}, {0: (7, 11), 1: (6, 8)}]
    assert parts[0].records is consumed
    assert parts[0].rows == consumed
    assert read.asked[0] == (covered, 1000)


def test_a_range_without_a_record_is_none_for_the_step_either(read):
    [part] = read.slices({0: (0, 11)}, (RECORD_SCHEMA.empty_table(), True))
    assert (part.covered, part.rows.num_rows) == ({0: (0, 11)}, 0)
