"""Cards: the questions of the dashboards, one `cards/NN_name.sql` each, read and checked.

A card's file begins with these comment lines, in this order, and goes on with one SELECT against views of schema mart:

    -- title: Customers by segment
    -- chart: bar
    -- description: One sentence that says what a row means.
    -- refresh: 1 s
    -- columns: customer_segment text, customers bigint, monetary numeric
    -- unit: monetary = currency            (optional; more of them separated by commas)
    -- group: operations                    (optional; where the page shows it: now, business or operations)

What a chart draws, by the order of the columns:

    bar         the first column names the bar (text, or a time for columns over time), the second is its length;
                further ones are details
    line, area  the first column is the time; if the second is text it names the line and the third is its height,
                otherwise each further column is a line
    matrix      row, column, value; further columns are details
    sankey      from, to, how many
    scalar      one row, each column a figure
    table       all rows and columns as they come

Units: `currency` (the shop's), `percent` (a share from 0 to 1), `ms` (milliseconds), `days`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conf.errors import OperatorError

FOLDER = Path(__file__).with_name("cards")
CHARTS = ("bar", "line", "area", "table", "matrix", "scalar", "sankey")
GROUPS = ("now", "business", "operations")  # in the page's order
UNITS = ("currency", "percent", "ms", "days")
NUMBER_TYPES = frozenset({"smallint", "integer", "bigint", "numeric", "double precision"})
TIME_TYPES = frozenset({"date", "timestamp", "timestamptz"})
TYPES = NUMBER_TYPES | TIME_TYPES | {"text", "text[]", "boolean"}

_FILE_NAME = re.compile(r"\d\d_([a-z0-9_]+)\.sql")
_HEADER = re.compile(r"-- (\w+): *(.*)")
_REQUIRED = ("title", "chart", "description", "refresh", "columns")
_LEAST_COLUMNS = {"bar": 2, "line": 2, "area": 2, "matrix": 3, "sankey": 3, "table": 1, "scalar": 1}


class CardError(OperatorError):
    """A card's file is wrong; the message names the file, the line and what is expected."""


@dataclass(frozen=True)
class Card:
    """One question: what it is called, how it is drawn, how often it is asked, and what it returns.

    `columns` are (name, PostgreSQL type) in the order of the SELECT; `units` maps some of them to one of UNITS.
    """

    name: str
    title: str
    chart: str
    description: str
    refresh_seconds: int
    columns: tuple[tuple[str, str], ...]
    units: Mapping[str, str]
    sql: str
    group: str = "business"


def cards(folder: Path = FOLDER) -> list[Card]:
    """All cards in the order of their numbers. Raises CardError for the first file that is wrong."""
    found = [_read(path) for path in sorted(folder.glob("*.sql"))]
    if not found:
        raise CardError(f"no cards in {folder}: files are named like 01_headline.sql")
    names = [card.name for card in found]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise CardError(f"two files name the card {', '.join(sorted(doubled))}: rename one")
    return found


def _read(path: Path) -> Card:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise CardError(f"{path.name}: a card's file is named like 02_customers_by_segment.sql")
    return parse_card(match[1], path.read_text(encoding="utf-8"), path.name)


def parse_card(name: str, text: str, file: str = "card") -> Card:
    """One card from the text of its file; `file` is for messages. Raises CardError."""
    header, body = _split(text, file)
    for key in header:
        if key not in (*_REQUIRED, "unit", "group"):
            raise CardError(f"{file}: header {key!r} is unknown: use {', '.join(_REQUIRED)}, unit or group")
    for key in _REQUIRED:
        if not header.get(key):
            raise CardError(f"{file}: header `-- {key}: …` is missing or empty")
    if header["chart"] not in CHARTS:
        raise CardError(f"{file}: chart {header['chart']!r} is not one of {', '.join(CHARTS)}")
    if (group := header.get("group", "business")) not in GROUPS:
        raise CardError(f"{file}: group {group!r} is not one of {', '.join(GROUPS)}")
    refresh = re.fullmatch(r"([1-9]\d*) s", header["refresh"])
    if refresh is None:
        raise CardError(f"{file}: refresh {header['refresh']!r} is not like `1 s`")
    columns = _columns(header["columns"], file)
    if len(columns) < _LEAST_COLUMNS[header["chart"]]:
        raise CardError(f"{file}: a {header['chart']} needs at least {_LEAST_COLUMNS[header['chart']]} columns")
    if not re.match(r"(?i)(select|with)\b", re.sub(r"(?m)^--.*\n", "", body)) or ";" in body:
        raise CardError(f"{file}: after the header comes one SELECT, without a semicolon")
    return Card(
        name,
        header["title"],
        header["chart"],
        header["description"],
        int(refresh[1]),
        columns,
        _units(header.get("unit", ""), dict(columns), file),
        body,
        group,
    )


def _split(text: str, file: str) -> tuple[dict[str, str], str]:
    header: dict[str, str] = {}
    lines = text.splitlines()
    while lines and (match := _HEADER.fullmatch(lines[0])):
        if match[1] in header:
            raise CardError(f"{file}: header {match[1]!r} is given twice")
        header[match[1]] = match[2].strip()
        lines.pop(0)
    return header, "\n".join(lines).strip()


def _columns(listed: str, file: str) -> tuple[tuple[str, str], ...]:
    found = []
    for column in listed.split(","):
        name, _, kind = column.strip().partition(" ")
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or kind not in TYPES:
            raise CardError(
                f"{file}: column {column.strip()!r} is not a name and a type, like `customers bigint`; "
                f"types: {', '.join(sorted(TYPES))}"
            )
        found.append((name, kind))
    if len(dict(found)) < len(found):
        raise CardError(f"{file}: a column is listed twice")
    return tuple(found)


def _units(listed: str, columns: Mapping[str, str], file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in listed.split(","))):
        name, _, unit = (part.strip() for part in entry.partition("="))
        if unit not in UNITS or columns.get(name) not in NUMBER_TYPES:
            raise CardError(
                f"{file}: unit {entry!r} is not like `monetary = currency`, "
                f"with a number column and one of {', '.join(UNITS)}"
            )
        found[name] = unit
    return found
