"""What a terminal of some width shows, and whether a value can be read in it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType

NARROW = 80


def rendered(shown: RenderableType, width: int = NARROW) -> str:
    """As a terminal of that width shows it; no line is longer."""
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    console.print(shown)
    text = "\n".join(line.rstrip() for line in console.export_text().splitlines())
    assert max(map(len, text.splitlines()), default=0) <= width
    return text


def unreadable(text: str, values: Iterable[str]) -> list[str]:
    """The values that nobody can read whole, going down a column of what was shown."""
    columns = list(_columns(text.splitlines()))
    return [value for value in values if not any("".join(value.split()) in column for column in columns)]


def _columns(lines: list[str]) -> Iterator[str]:
    """Each column of a grid, by the line below its headings, and each that goes on to the end of the line."""
    for heading in [line for line in lines if line.startswith("─")]:
        for column in re.finditer("─+", heading):
            yield _joined(line[column.start() : column.end()] for line in lines)
    for start in range(40):
        yield _joined(line[start:] for line in lines)


def _joined(parts: Iterable[str]) -> str:
    return "".join("".join(part.split()) for part in parts)
