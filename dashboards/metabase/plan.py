"""What Metabase is to hold, what it holds, and the changes from the one to the other. Nothing is sent here.

Our things are found again without a note on this machine: questions by their entity id, the collection and the
dashboard by the sentence that ends their description, the database by its name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dashboards.metabase.questions import Question, used_filters

MARK = "Written by `python -m dashboards metabase apply`, which overwrites edits made here."
DATABASE = {"name": "Retail mart", "engine": "postgres"}
COLLECTION = {"name": "Retail mart", "description": f"The cards of the retail mart. {MARK}"}
DASHBOARD = {
    "name": "Retail mart, live",
    "description": f"Segments, sales, the stream and the rules. Add #refresh=1 to the address to see it move. {MARK}",
    "width": "full",
}

Kind = Literal["administrator", "database", "collection", "question", "dashboard"]
_VARIABLE_KEYS = ("id", "name", "display-name", "type")


@dataclass(frozen=True)
class Change:
    """One thing to do in Metabase. `notes` say, a line each, what differs; `entity_id` is a question's."""

    action: Literal["create", "update", "archive"]
    kind: Kind
    name: str
    notes: tuple[str, ...] = ()
    entity_id: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What Metabase is to hold. `details` are the database's connection, with the password."""

    details: Mapping[str, Any]
    questions: Sequence[Question]


@dataclass(frozen=True)
class Existing:
    """What Metabase holds of ours, as its API gave it; nothing for a fresh one (`is_set_up` false).

    `trouble` is why the database does not connect, `questions` are by entity id, archived ones too; `listed` are the
    names of the questions of ours that lie in the collection unarchived, by entity id.
    """

    is_set_up: bool = True
    database: Mapping[str, Any] | None = None
    trouble: str | None = None
    collection: Mapping[str, Any] | None = None
    questions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    listed: Mapping[str, str] = field(default_factory=dict)
    dashboard: Mapping[str, Any] | None = None


def is_ours(thing: Mapping[str, Any]) -> bool:
    """Whether a collection or a dashboard is ours, by its description."""
    return str(thing.get("description") or "").endswith(MARK)


def changes(wanted: Wanted, existing: Existing) -> list[Change]:
    """What to do, in the order in which it must be done; empty if Metabase is as wanted."""
    found = [] if existing.is_set_up else [Change("create", "administrator", "the first account")]
    return [
        *found,
        *_thing("database", DATABASE["name"], existing.database, list(_database(wanted, existing))),
        *_thing("collection", COLLECTION["name"], existing.collection, _differ(COLLECTION, existing.collection)),
        *_questions(wanted, existing),
        *_thing("dashboard", DASHBOARD["name"], existing.dashboard, list(_dashboard(wanted, existing))),
    ]


def dashboard_body(wanted: Wanted, card_ids: Mapping[str, int], tile_ids: Mapping[str, int]) -> dict[str, Any]:
    """The dashboard as `PUT /api/dashboard/:id` takes it.

    `card_ids` are Metabase's ids of the questions by entity id, `tile_ids` those of the tiles that exist; a new tile
    has a negative id.
    """
    tiles = [
        {
            "id": tile_ids.get(question.entity_id, -number),
            "card_id": card_ids[question.entity_id],
            **_tile(question, card_ids[question.entity_id]),
        }
        for number, question in enumerate(wanted.questions, start=1)
    ]
    return {**DASHBOARD, "parameters": _parameters(wanted), "tabs": [], "dashcards": tiles}


def tile_ids(existing: Existing) -> dict[str, int]:
    """Ids of the dashboard's tiles by their question's entity id; those of other people's questions are left out."""
    entity_ids = {card["id"]: entity_id for entity_id, card in existing.questions.items()}
    tiles = (existing.dashboard or {}).get("dashcards") or []
    return {entity_ids[tile["card_id"]]: tile["id"] for tile in tiles if tile.get("card_id") in entity_ids}


def _thing(kind: Kind, name: str, existing: object, notes: list[str]) -> list[Change]:
    if existing is None:
        return [Change("create", kind, name)]
    return [Change("update", kind, name, tuple(notes))] if notes else []


def _database(wanted: Wanted, existing: Existing) -> Iterator[str]:
    if existing.database is None:
        return
    yield from _differ({"engine": DATABASE["engine"]}, existing.database)
    details = existing.database.get("details") or {}
    shown = {name: value for name, value in wanted.details.items() if name != "password"}  # Metabase never shows it
    if details.get("ssl"):
        del shown["ssl"]  # asked for a connection without TLS, Metabase tries one with it first and keeps that
    yield from _differ(shown, details)
    if existing.trouble:
        yield f"does not connect: {existing.trouble}"


def _questions(wanted: Wanted, existing: Existing) -> Iterator[Change]:
    database_id = existing.database["id"] if existing.database else None
    collection_id = existing.collection["id"] if existing.collection else None
    for question in wanted.questions:
        card = existing.questions.get(question.entity_id)
        if card is None:
            yield Change("create", "question", question.name, (), question.entity_id)
        elif notes := _question_notes(question.body(database_id, collection_id), card):
            yield Change("update", "question", question.name, tuple(notes), question.entity_id)
    kept = {question.entity_id for question in wanted.questions}
    for entity_id, name in existing.listed.items():
        if entity_id not in kept:
            yield Change("archive", "question", name, (), entity_id)


def _question_notes(body: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    if card.get("archived"):
        return ["is in the trash"]
    notes = _differ({name: body[name] for name in ("name", "description", "display")}, card)
    if body["collection_id"] != card.get("collection_id"):
        notes.append("is in another collection")
    query, now = body["dataset_query"], card.get("dataset_query") or {}
    native, native_now = query["native"], now.get("native") or {}
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


def _dashboard(wanted: Wanted, existing: Existing) -> Iterator[str]:
    if existing.dashboard is None:
        return
    yield from _differ(DASHBOARD, existing.dashboard)
    wanted_parameters = _parameters(wanted)
    pairs = _pairs(wanted_parameters, existing.dashboard.get("parameters"))
    if wanted_parameters != [_only(tuple(parameter), now) for parameter, now in pairs]:
        yield "has other filters"
    if existing.dashboard.get("tabs"):
        yield "has tabs"
    yield from _tile_notes(wanted, existing)


def _tile_notes(wanted: Wanted, existing: Existing) -> Iterator[str]:
    tiles = (existing.dashboard or {}).get("dashcards") or []
    ids = {
        question.entity_id: existing.questions.get(question.entity_id, {}).get("id") for question in wanted.questions
    }
    by_card: dict[Any, list[Mapping[str, Any]]] = {}
    for tile in tiles:
        by_card.setdefault(tile.get("card_id"), []).append(tile)
    for question in wanted.questions:
        card_id = ids[question.entity_id]
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
