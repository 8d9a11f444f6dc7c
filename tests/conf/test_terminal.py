"""Tables: at every width each value can be read whole, and nobody makes a table in another way."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from conf.terminal import Column, Table, number, prose
from tests.builders.files import ROOT
from tests.builders.rendered import rendered, unreadable

_WORDS = st.text("abcXYZ019-_.[]/", min_size=1, max_size=60)
_CELLS = st.lists(_WORDS, min_size=0, max_size=12).map(" ".join)
_COLUMNS = st.lists(
    st.sampled_from((Column("key"), number("how many"), prose("what was found"))), min_size=1, max_size=8
)


@given(st.data(), _COLUMNS, st.integers(30, 200), st.booleans())
def test_each_value_can_be_read_whole_at_every_width(data, columns, width, headed):
    rows = data.draw(st.lists(st.tuples(*[_CELLS for _ in columns]), max_size=4))
    table = Table(*columns, title="A table", headed=headed)
    for row in rows:
        table.add(*row)
    text = rendered(table, width)
    assert "…" not in text
    if headed:
        assert unreadable(text, [value for row in rows for value in row]) == []


def test_a_grid_where_there_is_room_and_blocks_where_there_is_none():
    table = Table("key", number("size"), prose("what"), title="Two")
    table.add("a", "1,000", "some words that go on and on")
    table.add("b" * 20, "2", "x")
    assert rendered(table, 44).splitlines() == [
        "Two",
        "key                    size  what",
        "───────────────────── ────── ───────────────",
        "a                     1,000  some words that",
        "                             go on and on",
        "bbbbbbbbbbbbbbbbbbbb      2  x",
    ]
    assert rendered(table, 24).splitlines() == [
        "Two", "key   a", "size  1,000", "what  some words that go", "      on and on", "",
        "key   bbbbbbbbbbbbbbbbbb", "      bb", "size  2", "what  x",
    ]  # fmt: skip


def test_no_value_is_markup_or_moves_the_cursor():
    table = Table("key")
    table.add("[red]a\x1b[2J\x07")
    assert "[red]a\\x1b[2J\\x07" in rendered(table)


def test_tables_are_made_in_one_place():
    """rich's own crops what has no room."""
    made = re.compile(r"rich\.table|no_wrap|overflow=\"(?:crop|ellipsis)\"|\bcrop=True")
    elsewhere = [
        str(file.relative_to(ROOT))
        for file in ROOT.glob("[!.]*/**/*.py")
        if file.relative_to(ROOT).parts[0] != "tests" and made.search(file.read_text())
    ]
    assert sorted(elsewhere) == ["conf/terminal.py", "demo/watch.py"]  # the demo's live picture is no table of values


def test_an_empty_table_shows_its_headings():
    assert rendered(Table("key", prose("what"))).startswith("key  what")
