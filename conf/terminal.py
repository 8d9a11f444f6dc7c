"""Tables for a terminal of any width: nothing is ever cropped, and nothing in a table moves the cursor.

A table is a grid if every value fits into its column, with prose folded at its spaces. If that needs more room than
there is, each row becomes a block of lines, one per value, folded only if it is longer than the terminal is wide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as Grid
from rich.text import Text

# What would move a terminal's cursor or ring its bell, or is not text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADED = Box("    \n    \n ─  \n    \n    \n    \n    \n    \n")  # a line below each heading, and no others
_GAP = 2
_LONGEST_WORD = 24  # a longer word of prose may be folded

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """`number`: to the right. `prose`: may be folded at its spaces; any other value stands in one line of a grid."""

    heading: str
    number: bool = False
    prose: bool = False

    def least(self, texts: Sequence[Text]) -> int:
        """The fewest characters in which it can stand."""
        words = [cell_len(word) for text in texts for word in text.plain.split()] or [0]
        longest = min(max(words), _LONGEST_WORD) if self.prose else self.most(texts)
        return max(longest, *(cell_len(word) for word in self.heading.split() or [""]))

    def most(self, texts: Sequence[Text]) -> int:
        """The most characters that it can use."""
        return max(cell_len(line) for text in texts or [Text()] for line in text.plain.splitlines() or [""])


def number(heading: str) -> Column:
    return Column(heading, number=True)


def prose(heading: str) -> Column:
    return Column(heading, prose=True)


class Table:
    """Headings, rows, and a title. Without a heading at all (`headed=False`) it is a list of facts."""

    def __init__(self, *columns: str | Column, title: str = "", headed: bool = True) -> None:
        self._columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self._title, self._headed = title, headed
        self._rows: list[list[Text]] = []

    def add(self, *cells: Cell, style: str = "") -> None:
        """One row; text is shown as it is, without interpreting markup."""
        assert len(cells) == len(self._columns), cells  # noqa: S101
        self._rows.append([_readable(cell, style) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title:
            yield Text(self._title, style="italic")
        widths = self._widths(options.max_width)
        yield from self._blocks(options.max_width) if widths is None else [self._grid(widths)]

    def _widths(self, room: int) -> list[int] | None:
        """Each column's; None where they do not fit side by side."""
        cells = [list(column) for column in zip(*self._rows, strict=True)] or [[] for _ in self._columns]
        headings = [[Text(column.heading)] if self._headed else [] for column in self._columns]
        widths = [column.least(found) for column, found in zip(self._columns, cells, strict=True)]
        most = [column.most(h + c) for column, h, c in zip(self._columns, headings, cells, strict=True)]
        left = room - sum(widths) - _GAP * (len(widths) - 1)
        if left < 0:
            return None
        wanting = sorted((m - w, at) for at, (m, w) in enumerate(zip(most, widths, strict=True)) if m > w)
        for waiting, (more, at) in zip(range(len(wanting), 0, -1), wanting, strict=True):
            given = min(more, left // waiting)
            widths[at] += given
            left -= given
        return widths

    def _grid(self, widths: Sequence[int]) -> Grid:
        grid = Grid(box=_HEADED, show_edge=False, show_header=self._headed, padding=(0, _GAP - 1, 0, 0), pad_edge=False)
        for column, width in zip(self._columns, widths, strict=True):
            grid.add_column(
                Text(column.heading), justify="right" if column.number else "left", width=width, overflow="fold"
            )
        for row in self._rows:
            grid.add_row(*row)
        return grid

    def _blocks(self, room: int) -> Iterator[Grid | Text]:
        headings = [Text(column.heading if self._headed else "", style="bold") for column in self._columns]
        wide = max(cell_len(heading.plain) for heading in headings)
        for at, row in enumerate(self._rows):
            if at:
                yield Text()
            block = Grid.grid(padding=(0, _GAP, 0, 0))
            block.add_column(width=wide, overflow="fold")
            block.add_column(width=max(1, room - wide - _GAP), overflow="fold")
            for heading, text in zip(headings, row, strict=True):
                if text.plain:
                    block.add_row(heading, text)
            yield block


def readable(value: bytes) -> str:
    """Bytes as text that no terminal obeys: what is not UTF-8 or a control character stands as \\x and its digits."""
    text = value.decode("utf-8", errors="backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _readable(cell: Cell, style: str) -> Text:
    if isinstance(cell, Text):
        return Text(readable(cell.plain.encode(errors="backslashreplace")), cell.style or style)
    return Text(readable(cell.encode(errors="backslashreplace")), style)
