"""Segments and line rules: the business parameters as the design states them."""

from __future__ import annotations

import pytest

from conf.line_rules import admin_codes
from conf.segments import Segment, segment_scores, segments
from torture.oracle import ADMIN_CODES, segment


def test_every_combination_of_scores_has_the_segment_of_the_design():
    found = list(segment_scores())
    assert len(found) == 125
    assert [name for r, f, _m, name in found] == [segment(r, f) for r, f, _m, _ in found]


def test_order_decides_where_two_segments_match():
    names = [s.name for s in segments() if s.matches(5, 5, 1)]
    assert names[:2] == ["Champions", "Potential Loyalists"]


@pytest.mark.parametrize("condition", ["r > 4", "x >= 4", "r >= 6", "r>=4", ""])
def test_condition_that_cannot_be_read_is_named(condition):
    with pytest.raises(ValueError, match="segment 'Odd': condition"):
        Segment("Odd", (condition,)).matches(5, 5, 5)


def test_admin_codes_are_those_of_the_oracle():
    assert set(admin_codes()) == ADMIN_CODES
