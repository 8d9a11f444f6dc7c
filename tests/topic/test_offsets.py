"""Where to start and what is due, without a database."""

import pytest

from conf.errors import GapError, StreamingError
from tests.builders.coordinates import batch
from topic.describe import Topic
from topic.offsets import advanced, due_records, spanned, starting_offsets

TOPIC = Topic("t", "id", first_offsets={0: 10, 1: 0}, end_offsets={0: 20, 1: 5})


def test_starts_at_the_marts_next_offsets_and_new_partitions_at_their_first_record():
    assert starting_offsets({0: 15}, TOPIC) == {0: 15, 1: 0}
    assert starting_offsets({0: 20, 1: 5}, TOPIC) == {0: 20, 1: 5}
    assert starting_offsets({}, TOPIC) == {0: 10, 1: 0}


def test_deleted_records_are_an_error_unless_accepted():
    with pytest.raises(GapError, match=r"offsets 7 to 9 \(3 records\) were deleted .* --accept-gap"):
        starting_offsets({0: 7}, TOPIC)
    assert starting_offsets({0: 7}, TOPIC, accept_gap=True) == {0: 10, 1: 0}


def test_a_next_offset_past_the_end_is_an_error_always():
    with pytest.raises(GapError, match="lost records"):
        starting_offsets({0: 21}, TOPIC, accept_gap=True)


def test_due_records_are_those_at_or_after_the_next_offsets():
    rows = batch((0, 3), (0, 4), (1, 7), (0, 5), (1, 8))
    covered = {0: (3, 6), 1: (7, 9)}
    assert due_records(rows, covered, {0: 3, 1: 7}).num_rows == 5
    assert due_records(rows, covered, {0: 5, 1: 8}).to_pylist() == [
        {"partition": 0, "offset": 5},
        {"partition": 1, "offset": 8},
    ]
    assert due_records(rows, covered, {0: 99, 1: 99}).num_rows == 0
    assert due_records(batch(), {}, {0: 1}).num_rows == 0


def test_a_range_that_begins_after_the_next_offset_is_a_gap_with_or_without_a_record():
    rows = batch((0, 3), (1, 7))
    with pytest.raises(GapError, match="1 offset would be lost"):
        due_records(rows, {0: (3, 4), 1: (7, 8)}, {0: 2, 1: 7})
    with pytest.raises(GapError, match="partition 1: the batch starts at offset 7, the mart's next offset is 0"):
        due_records(rows, {0: (3, 4), 1: (7, 8)}, {0: 3})
    with pytest.raises(GapError, match="partition 2"):
        due_records(rows, {0: (3, 4), 2: (5, 5)}, {0: 3, 2: 4})


def test_offsets_without_a_record_are_no_gap():
    """A transaction's mark before the first row, between two and after the last one."""
    rows = batch((0, 4), (0, 6))
    covered = {0: (3, 8)}
    assert due_records(rows, covered, {0: 3}).num_rows == 2
    assert advanced(covered, {0: 3}) == {0: 8}
    assert due_records(rows, covered, {0: 7}).num_rows == 0
    assert advanced(covered, {0: 7}) == {0: 8}


@pytest.mark.parametrize("covered", [{0: (5, 7)}, {0: (6, 10)}, {1: (5, 10)}, {}], ids=str)
def test_a_record_outside_of_what_was_planned_is_refused(covered):
    """It would come a second time: the next offset is the end of what was planned, and 9 is behind it."""
    rows = batch((0, 5), (0, 6), (0, 9))
    with pytest.raises(StreamingError, match="partition 0: the batch has offsets 5 to 9, but was read from the range"):
        due_records(rows, covered, {0: 6, 1: 5})
    assert due_records(rows, {0: (5, 10)}, {0: 5}).num_rows == 3


def test_next_offsets_move_to_the_ends_of_what_was_covered_and_never_back():
    covered = {0: (3, 8), 1: (2, 2), 2: (0, 5), 3: (1, 4)}
    assert advanced(covered, {0: 3, 1: 2, 2: 5, 3: 9}) == {0: 8}
    assert advanced({0: (0, 3)}, {}) == {0: 3}


def test_a_batch_spans_its_rows():
    assert spanned(batch((0, 3), (1, 7), (0, 5))) == {0: (3, 6), 1: (7, 8)}
    assert spanned(batch()) == {}
