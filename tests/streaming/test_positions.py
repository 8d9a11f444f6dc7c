"""Where to start and what is due, without a database."""

import pyarrow as pa
import pytest

from streaming.errors import GapError
from streaming.positions import due_records, starting_offsets
from streaming.source import Topic

TOPIC = Topic("t", "id", first_offsets={0: 10, 1: 0}, end_offsets={0: 20, 1: 5})


def batch(*coordinates):
    partitions, offsets = zip(*coordinates, strict=True) if coordinates else ((), ())
    return pa.table({"partition": pa.array(partitions, pa.int32()), "offset": pa.array(offsets, pa.int64())})


def test_starts_at_the_marts_positions_and_new_partitions_at_their_first_record():
    assert starting_offsets({0: 15}, TOPIC) == {0: 15, 1: 0}
    assert starting_offsets({0: 20, 1: 5}, TOPIC) == {0: 20, 1: 5}
    assert starting_offsets({}, TOPIC) == {0: 10, 1: 0}


def test_deleted_records_are_an_error_unless_accepted():
    with pytest.raises(GapError, match=r"offsets 7 to 9 \(3 records\) were deleted .* --accept-gap"):
        starting_offsets({0: 7}, TOPIC)
    assert starting_offsets({0: 7}, TOPIC, accept_gap=True) == {0: 10, 1: 0}


def test_a_position_past_the_end_is_an_error_always():
    with pytest.raises(GapError, match="lost records"):
        starting_offsets({0: 21}, TOPIC, accept_gap=True)


def test_due_records():
    rows = batch((0, 3), (0, 4), (1, 7), (0, 5), (1, 8))
    assert due_records(rows, {0: 3, 1: 7}).num_rows == 5
    assert due_records(rows, {0: 5, 1: 8}).to_pylist() == [
        {"partition": 0, "offset": 5},
        {"partition": 1, "offset": 8},
    ]
    assert due_records(rows, {0: 99, 1: 99}).num_rows == 0
    assert due_records(batch(), {0: 1}).num_rows == 0
    with pytest.raises(GapError, match="1 records would be lost"):
        due_records(rows, {0: 2, 1: 7})
    with pytest.raises(GapError, match="partition 1: the batch starts at offset 7, the mart's position is 0"):
        due_records(rows, {0: 3})
