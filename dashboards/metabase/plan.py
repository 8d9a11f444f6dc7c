"""What Metabase should contain, what it contains, and the changes between the two. Sends nothing.

We find our things again without notes on this machine: the database by its name, everything else as in
`dashboards.metabase.identity`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dashboards.metabase import access
from dashboards.metabase.access import Access
from dashboards.metabase.identity import MARK
from dashboards.metabase.questions import Question, used_filters

DATABASE = {"name": "Retail mart", "engine": "postgres"}
COLLECTION = {"name": "Retail mart", "description": f"The cards of the retail mart. {MARK}"}
DASHBOARD = {
    "name": "Retail mart, live",
    "description": f"Segments, sales, the stream and the rules. Add #refresh=1 to the address to see it move. {MARK}",
    "width": "full",
}

Kind = Literal["administrator", "database", "collection", "permissions", "question", "dashboard"]
_VARIABLE_KEYS = ("id", "name", "display-name", "type")


@dataclass(frozen=True)
class Change:
    """One thing to do in Metabase. `notes` say what differs, one per line.

    `key` names the question to create or update, `card_id` the one to archive.
    """

    action: Literal["create", "update", "archive"]
    kind: Kind
    name: str
    notes: tuple[str, ...] = ()
    key: str | None = None
    card_id: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What Metabase should contain. `details` are the database's connection, with the password."""

    details: Mapping[str, Any]
    questions: Sequence[Question]


@dataclass(frozen=True)
class Existing:
    """What Metabase holds of ours, as its API gave it; nothing for a fresh one (`is_set_up` false).

    `trouble` is why the database does not connect; `questions` are by key, archived ones too; `surplus` are the names
    of the questions of ours that no card makes, by id; `copies` the names of those that people copied from ours.
    """

    is_set_up: bool = True
    database: Mapping[str, Any] | None = None
    trouble: str | None = None
    collection: Mapping[str, Any] | None = None
    questions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    surplus: Mapping[int, str] = field(default_factory=dict)
    copies: Sequence[str] = ()
    access: Access | None = None
    dashboard: Mapping[str, Any] | None = None


def changes(wanted: Wanted, existing: Existing) -> list[Change]:
    """What to do, in the required order; empty if Metabase is as wanted."""
    found = [] if existing.is_set_up else [Change("create", "administrator", "the first account")]
    return [
        *found,
        *_thing("database", DATABASE["name"], existing.database, list(_database(wanted, existing))),
        *_thing("collection", COLLECTION["name"], existing.collection, collection_notes(existing.collection)),
        *_thing("permissions", "read-only but for administrators", existing.access, _access_notes(existing)),
        *_questions(wanted, existing),
        *_thing("dashboard", DASHBOARD["name"], existing.dashboard, list(_dashboard(wanted, existing))),
        # last: the tile of a question that is archived stays behind, hidden
        *(Change("archive", "question", name, card_id=card_id) for card_id, name in existing.surplus.items()),
    ]


def dashboard_body(wanted: Wanted, card_ids: Mapping[str, int], tile_ids: Mapping[str, int]) -> dict[str, Any]:
    """The dashboard as `PUT /api/dashboard/:id` takes it.

    `card_ids` are Metabase's ids of the questions by key, `tile_ids` those of the tiles that exist; a new tile has a
    negative id.
    """
    tiles = [
        {
            "id": tile_ids.get(question.key, -number),
            "card_id": card_ids[question.key],
            **_tile(question, card_ids[question.key]),
        }
        for number, question in enumerate(wanted.questions, start=1)
    ]
    return {**DASHBOARD, "parameters": _parameters(wanted), "tabs": [], "dashcards": tiles}


def new_dashboard_body(wanted: Wanted) -> dict[str, Any]:
    """The dashboard as `POST /api/dashboard` takes it: without tiles and width."""
    return {**{name: DASHBOARD[name] for name in ("name", "description")}, "parameters": _parameters(wanted)}


def tile_ids(dashboard: Mapping[str, Any], card_ids: Mapping[str, int]) -> dict[str, int]:
    """Ids of the dashboard's tiles by their question's key; those of other people's questions are left out."""
    keys = {card_id: key for key, card_id in card_ids.items()}
    tiles = dashboard.get("dashcards") or []
    return {keys[tile["card_id"]]: tile["id"] for tile in tiles if tile.get("card_id") in keys}


def collection_notes(collection: Mapping[str, Any] | None) -> list[str]:
    """What differs of a collection as Metabase gives it."""
    trashed = ["is in the trash"] if collection is not None and collection.get("archived") else []
    return trashed + _differ(COLLECTION, collection)


def database_notes(wanted: Wanted, database: Mapping[str, Any]) -> list[str]:
    """What differs of a database as Metabase gives it, which is without its password."""
    details = database.get("details") or {}
    shown = {name: value for name, value in wanted.details.items() if name != "password"}
    if details.get("ssl"):
        del shown["ssl"]  # asked for a connection without TLS, Metabase tries one with it first and keeps that
    return _differ({"engine": DATABASE["engine"]}, database) + _differ(shown, details)


def _thing(kind: Kind, name: str, existing: object, notes: list[str]) -> list[Change]:
    if existing is None:
        return [Change("create", kind, name)]
    return [Change("update", kind, name, tuple(notes))] if notes else []


def _database(wanted: Wanted, existing: Existing) -> Iterator[str]:
    if existing.database is None:
        return
    yield from database_notes(wanted, existing.database)
    if existing.trouble:
        yield f"does not connect: {existing.trouble}"


def _access_notes(existing: Existing) -> list[str]:
    if existing.access is None or existing.database is None or existing.collection is None:
        return []
    return access.notes(existing.access, existing.database["id"], existing.collection["id"])


def _questions(wanted: Wanted, existing: Existing) -> Iterator[Change]:
    database_id = existing.database["id"] if existing.database else None
    collection_id = existing.collection["id"] if existing.collection else None
    for question in wanted.questions:
        card = existing.questions.get(question.key)
        if card is None:
            yield Change("create", "question", question.name, (), question.key)
        elif notes := question_notes(question.body(database_id, collection_id), card):
            yield Change("update", "question", question.name, tuple(notes), question.key)


def question_notes(body: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """What differs between a question as it is sent and as Metabase gives it, in its old form of queries or the new."""
    if card.get("archived"):
        return ["is in the trash"]
    notes = _differ({name: body[name] for name in ("name", "description", "display")}, card)
    if body["collection_id"] != card.get("collection_id"):
        notes.append("is in another collection")
    query, now = body["dataset_query"], card.get("dataset_query") or {}
    native, native_now = query["native"], _native(now)
    if query["database"] != now.get("database"):
        notes.append("asks another database")
    if native["query"] != native_now.get("query"):
        notes += ["SQL:", *_lines_that_differ(str(native_now.get("query") or ""), native["query"])]
    variables = {
        name: _only(_VARIABLE_KEYS, variable) for name, variable in (native_now.get("template-tags") or {}).items()
    }
    parameters = [_only(tuple(wanted), now) for wanted, now in _pairs(body["parameters"], card.get("parameters"))]
    if native["template-tags"] != variables or body["parameters"] != parameters:
        notes.append("has other filters")
    return notes + _differ_exactly(body["visualization_settings"], card.get("visualization_settings") or {})


def _native(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """SQL and variables of a native query: `{native: {query, …}}` before MBQL 5, one stage of `stages` in it."""
    stages = query.get("stages")
    if not stages:
        return query.get("native") or {}
    return {"query": stages[0].get("native"), "template-tags": stages[0].get("template-tags")}


def _dashboard(wanted: Wanted, existing: Existing) -> Iterator[str]:
    if existing.dashboard is not None:
        ids = {key: card["id"] for key, card in existing.questions.items()}
        yield from dashboard_notes(wanted, existing.dashboard, ids)


def dashboard_notes(wanted: Wanted, dashboard: Mapping[str, Any], card_ids: Mapping[str, int]) -> Iterator[str]:
    """What differs of a dashboard as Metabase gives it; `card_ids` are its questions' ids by key."""
    if dashboard.get("archived"):
        yield "is in the trash"
    yield from new_dashboard_notes(wanted, dashboard)
    yield from _differ({"width": DASHBOARD["width"]}, dashboard)
    if dashboard.get("tabs"):
        yield "has tabs"
    yield from _tile_notes(wanted, dashboard.get("dashcards") or [], card_ids)


def new_dashboard_notes(wanted: Wanted, dashboard: Mapping[str, Any]) -> Iterator[str]:
    """What differs of a dashboard that was created just now, with its filters and without tiles."""
    yield from _differ({name: DASHBOARD[name] for name in ("name", "description")}, dashboard)
    wanted_parameters = _parameters(wanted)
    pairs = _pairs(wanted_parameters, dashboard.get("parameters"))
    if wanted_parameters != [_only(tuple(parameter), now) for parameter, now in pairs]:
        yield "has other filters"


def _tile_notes(wanted: Wanted, tiles: Sequence[Mapping[str, Any]], card_ids: Mapping[str, int]) -> Iterator[str]:
    by_card: dict[Any, list[Mapping[str, Any]]] = {}
    for tile in tiles:
        by_card.setdefault(tile.get("card_id"), []).append(tile)
    for question in wanted.questions:
        card_id = card_ids.get(question.key)
        of_card = by_card.pop(card_id, [])
        if card_id is None or len(of_card) != 1:
            yield f"{question.name}: " + ("is not on it" if not of_card else "is on it twice")
            continue
        tile = _tile(question, card_id)
        now = _only(tuple(tile), of_card[0])
        now["parameter_mappings"] = [
            _only(("parameter_id", "card_id", "target"), mapping) for mapping in now.get("parameter_mappings") or []
        ]
        if tile != now:
            yield f"{question.name}: lies elsewhere or is wired otherwise"
    others = sum(map(len, by_card.values()))
    if others:
        yield f"{others} tile{'s' if others > 1 else ''} that no card makes"


def _tile(question: Question, card_id: int) -> dict[str, Any]:
    place = question.place
    return {
        "col": place.col,
        "row": place.row,
        "size_x": place.size_x,
        "size_y": place.size_y,
        "parameter_mappings": [
            {"parameter_id": chosen.parameter["id"], "card_id": card_id, "target": chosen.target}
            for chosen in question.filters
        ],
        "visualization_settings": {},
    }


def _parameters(wanted: Wanted) -> list[dict[str, Any]]:
    return [chosen.parameter for chosen in used_filters(wanted.questions)]


def _pairs(wanted: Sequence[Mapping[str, Any]], now: Any) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """What is wanted and what there is, one beside the other; a length that differs leaves an empty one."""
    held = list(now or [])
    blank: list[Mapping[str, Any]] = [{}]
    longest = max(len(wanted), len(held))
    return list(
        zip(
            [*wanted, *blank * (longest - len(wanted))],
            [*held, *blank * (longest - len(held))],
            strict=True,
        )
    )


def _only(names: Sequence[str], thing: Mapping[str, Any]) -> dict[str, Any]:
    return {name: thing[name] for name in names if name in thing}


def _differ(wanted: Mapping[str, Any], now: Mapping[str, Any] | None) -> list[str]:
    """A note for each wanted value that is another now; what Metabase adds of its own is no difference."""
    if now is None:
        return []
    return [
        f"{name}: {_shown(now.get(name))} → {_shown(value)}" for name, value in wanted.items() if now.get(name) != value
    ]


def _differ_exactly(wanted: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    notes = _differ(wanted, now)
    return notes + [f"{name}: {_shown(now[name])} → nothing" for name in now if name not in wanted]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _lines_that_differ(now: str, wanted: str) -> list[str]:
    lines = difflib.ndiff(now.splitlines(), wanted.splitlines())
    return [f"  {line}" for line in lines if line.startswith(("+ ", "- "))]
