"""What Metabase should contain for the cards: one question each, its chart, its filters and its place. Sends nothing.

Where Metabase differs from the live page:

- a scalar shows one figure, so a `scalar` card becomes one question per column;
- pivot tables refuse native queries, so a `matrix` is a table with Metabase's built-in pivot and a colour scale;
- a Sankey refuses cycles (A to B and B to A), so the target of a band is its own node, `→ Champions`;
- a filter wraps the card's query, so it filters rows that the card returns. A card that limits its rows (LIMIT, OFFSET,
  FETCH; not in a subquery) has no filter, which would hide rows that belong there;
- a card of the newest day uses the day filter where it asks for that day: the chosen day, or else the newest.

Metabase stores no name that we could give a question (`entity_id` is dropped when one is created), so its description
ends with our key, which `key_of` reads back.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from conf.segments import segments
from dashboards.cards import TIME_TYPES, Card, CardError

GRID_WIDTH = 24
REFRESH_SECONDS = 1  # Metabase's clock ticks once a second, and has one rate for all of a dashboard

_NAMESPACE = uuid.UUID("6a1c2f1e-6f53-5d0c-9f0e-2f6a54c1d7b3")
_DISPLAYS = {"matrix": "table"}
_HEIGHTS = {"table": 7, "sankey": 8}
_HEIGHT, _FIGURE_HEIGHT = 6, 3
_KEY = re.compile(r"Kept by `metabase apply` as ([a-z0-9_]+(?:\.[a-z0-9_]+)?)\.\s*\Z")
_CUT = re.compile(r"(?i)\b(limit|offset|fetch)\b")
_UNREAD = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"")  # comments, texts and quoted names
_INNERMOST = re.compile(r"\([^()]*\)")
_NEWEST_DAY = re.compile(r"\bday = (\(SELECT max\(day\) FROM [\w.]+\))")
_COLOURS = ["#FFFFFF", "#509EE3"]  # white to Metabase's blue


@dataclass(frozen=True)
class Filter:
    """A filter of the dashboard: one parameter above all cards, and one variable in each query that it fits.

    `kind` is the variable's type in the query, `parameter` what the dashboard shows.
    """

    slug: str
    label: str
    kind: str
    parameter: dict[str, Any] = field(hash=False)

    def variable(self, question: str) -> dict[str, Any]:
        """The query's variable; its id is the same at every run."""
        variable_id = str(uuid.uuid5(_NAMESPACE, f"{question}/{self.slug}"))
        return {"id": variable_id, "name": self.slug, "display-name": self.label, "type": self.kind}

    @property
    def target(self) -> list[Any]:
        """What of a query the dashboard's parameter sets."""
        return ["variable", ["template-tag", self.slug]]


def _filter(slug: str, label: str, kind: str, **parameter: Any) -> Filter:
    return Filter(slug, label, kind, {"id": f"mart_{slug}", "name": label, "slug": slug, **parameter})


SEGMENT = _filter(
    "segment",
    "Segment",
    "text",
    type="string/=",
    sectionId="string",
    values_query_type="list",
    values_source_type="static-list",
    values_source_config={"values": list(dict.fromkeys(segment.name for segment in segments()))},
    isMultiSelect=True,
)
DAY = _filter("day", "Day", "date", type="date/single", sectionId="date")
FILTERS = (SEGMENT, DAY)


@dataclass(frozen=True)
class Place:
    """Where a tile lies on the dashboard's grid, 24 wide: column, row, width and height in cells."""

    col: int
    row: int
    size_x: int
    size_y: int


@dataclass(frozen=True)
class Question:
    """One question in Metabase. `key` is its permanent name, the card's (and its figure's), by which it is found again.

    `told` is the card's description of its rows; Metabase's description is that plus the key.
    """

    key: str
    name: str
    told: str
    display: str
    sql: str
    filters: tuple[Filter, ...]
    settings: dict[str, Any] = field(hash=False)
    place: Place

    @property
    def description(self) -> str:
        """What Metabase shows, with the key at its end."""
        return f"{self.told}\n\nKept by `metabase apply` as {self.key}."

    def body(self, database_id: int | None, collection_id: int | None) -> dict[str, Any]:
        """The question as `POST /api/card` and `PUT /api/card/:id` take it."""
        variables = [chosen.variable(self.key) for chosen in self.filters]
        return {
            "name": self.name,
            "description": self.description,
            "display": self.display,
            "collection_id": collection_id,
            "dataset_query": {
                "database": database_id,
                "type": "native",
                "native": {"query": self.sql, "template-tags": {variable["name"]: variable for variable in variables}},
            },
            "parameters": [
                {
                    "id": variable["id"],
                    "type": chosen.parameter["type"],
                    "target": chosen.target,
                    "name": chosen.label,
                    "slug": chosen.slug,
                    **({"isMultiSelect": True} if chosen.parameter.get("isMultiSelect") else {}),
                }
                for chosen, variable in zip(self.filters, variables, strict=True)
            ],
            "visualization_settings": self.settings,
        }


def key_of(description: str | None) -> str | None:
    """The key at the end of a question's description; None if there is none."""
    match = _KEY.search(description or "")
    return match[1] if match else None


def questions(cards: Sequence[Card], currency: str) -> list[Question]:
    """The questions of all cards in their order, placed. `currency` is the sign put before amounts.

    Raises CardError for a card whose SQL Metabase would read as holding variables.
    """
    shown: list[tuple[Card, str | None]] = []
    for card in cards:
        figures = [name for name, _ in card.columns] if card.chart == "scalar" else []
        shown += [(card, name) for name in figures] if len(figures) > 1 else [(card, None)]
    places = _places([card.chart for card, _ in shown])
    return [_question(card, figure, place, currency) for (card, figure), place in zip(shown, places, strict=True)]


def used_filters(asked: Sequence[Question]) -> list[Filter]:
    """The filters that at least one question takes, in the order in which the dashboard shows them."""
    return [chosen for chosen in FILTERS if any(chosen in question.filters for question in asked)]


def _title(column: str) -> str:
    return column.replace("_", " ").capitalize()


def _question(card: Card, figure: str | None, place: Place, currency: str) -> Question:
    for mark in ("{{", "[["):
        if mark in card.sql:
            raise CardError(f"card {card.name}: Metabase reads `{mark}` as its own: write the SQL without it")
    filters = _fitting(card)
    settings = {"column_settings": _column_settings(card, currency)} | _chart_settings(card, figure)
    return Question(
        key=f"{card.name}.{figure}" if figure else card.name,
        name=_title(figure) if figure else card.title,
        told=card.description,
        display=_DISPLAYS.get(card.chart, card.chart),
        sql=_sql(card, filters),
        filters=filters,
        settings=settings,
        place=place,
    )


def _fitting(card: Card) -> tuple[Filter, ...]:
    if _NEWEST_DAY.search(card.sql):
        return (DAY,)
    if _CUT.search(_outermost(card.sql)):
        return ()
    segment = (SEGMENT,) if ("customer_segment", "text") in card.columns else ()
    day = (DAY,) if card.columns[0][1] in TIME_TYPES else ()
    return segment + day


def _outermost(sql: str) -> str:
    """The SQL without anything in parentheses, quotes and comments."""
    left, before = _UNREAD.sub(" ", sql), ""
    while left != before:
        left, before = _INNERMOST.sub(" ", left), left
    return left


def _sql(card: Card, filters: Sequence[Filter]) -> str:
    names = [name for name, _ in card.columns]
    columns = ", ".join(names)
    # without a day, coalesce() of the newest alone
    sql, inside = _NEWEST_DAY.subn(r"day = coalesce([[CAST({{day}} AS date), ]]\1)", card.sql)
    if card.chart == "sankey":
        source, target, *further = names
        columns = ", ".join((source, f"'→ ' || {target} AS {target}", *further))
    elif inside or not filters:
        return sql
    conditions = {SEGMENT: "customer_segment IN ({{segment}})", DAY: f"CAST({names[0]} AS date) = {{{{day}}}}"}
    optional = [] if inside else [f"[[AND {conditions[chosen]}]]" for chosen in filters]
    enclosed = [f"SELECT {columns} FROM (", sql, ") AS card"]  # noqa: S608  # our own SQL and names
    return "\n".join([*enclosed, "WHERE true", *optional] if optional else enclosed)


def _column_settings(card: Card, currency: str) -> dict[str, dict[str, Any]]:
    formats: dict[str, dict[str, Any]] = {
        "currency": {"number_style": "decimal", "decimals": 2, "prefix": f"{currency} "},
        "percent": {"number_style": "percent", "decimals": 1},
        "ms": {"decimals": 0, "suffix": " ms"},
        "days": {"suffix": " days"},
    }
    return {
        json.dumps(["name", name], separators=(",", ":")): {"column_title": _title(name)}
        | ({"time_enabled": "seconds"} if kind in ("timestamp", "timestamptz") else {})
        | formats.get(card.units.get(name, ""), {})
        for name, kind in card.columns
    }


def _chart_settings(card: Card, figure: str | None) -> dict[str, Any]:
    """Metabase's settings for the chart, by the order of the card's columns (dashboards/cards.py says which)."""
    names, kinds = [name for name, _ in card.columns], dict(card.columns)
    match card.chart:
        case "bar":
            scale = "timeseries" if kinds[names[0]] in TIME_TYPES else "ordinal"
            return {"graph.dimensions": names[:1], "graph.metrics": names[1:2], "graph.x_axis.scale": scale}
        case "line" | "area":
            by_name = kinds[names[1]] == "text"
            stacked = {"stackable.stack_type": "stacked" if by_name else None} if card.chart == "area" else {}
            return {
                "graph.dimensions": names[:2] if by_name else names[:1],
                "graph.metrics": names[2:3] if by_name else names[1:],
                "graph.x_axis.scale": "timeseries",
                "line.missing": "none",  # the default of each series: a gap stays a gap
            } | stacked
        case "matrix":
            return {
                "table.pivot": True,
                "table.pivot_column": names[1],
                "table.cell_column": names[2],
                "table.column_formatting": [{"columns": [names[2]], "type": "range", "colors": _COLOURS}],
            }
        case "sankey":
            return {"sankey.source": names[0], "sankey.target": names[1], "sankey.value": names[2]}
        case "scalar":
            return {"scalar.field": figure or names[0]}
        case _:
            return {}


def _places(charts: Sequence[str]) -> list[Place]:
    """Tiles in reading order: neighbouring figures share a row, everything else is placed two by two."""
    places: list[Place] = []
    row = start = 0
    while start < len(charts):
        end = start + 1
        if charts[start] == "scalar":
            while end < len(charts) and charts[end] == "scalar" and end - start < GRID_WIDTH // 4:
                end += 1
            height = _FIGURE_HEIGHT
        else:
            if end < len(charts) and charts[end] != "scalar":
                end += 1
            height = max(_HEIGHTS.get(chart, _HEIGHT) for chart in charts[start:end])
        edges = [GRID_WIDTH * i // (end - start) for i in range(end - start + 1)]
        places += [Place(left, row, right - left, height) for left, right in pairwise(edges)]
        row, start = row + height, end
    return places
