"""Which of Metabase's questions and dashboards are ours. Sends nothing.

Metabase gives everything it creates its own ids and stores none of ours, so we recognise ours by the end of the
description: MARK for the collection and the dashboard, a key for each question. Copies that people make keep the
description; the original is the one with the lowest id, because Metabase counts upwards. A question that lost its key
(or was made by this program before it wrote keys) is recognised by its name in our collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboards.metabase.questions import Question, key_of

MARK = "Written by `retail-mart metabase apply`, which overwrites edits made here."
_MARKS = (MARK, "Written by `python -m dashboards metabase apply`, which overwrites edits made here.")  # an older one

Thing = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Existing questions: the card's id for each wanted key, and what does not belong.

    `surplus`: questions of ours that no card makes, names by id: their card is gone, or an earlier version created them
    again and again. `copies`: questions that people copied from ours; they are left alone.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    surplus: Mapping[int, str] = field(default_factory=dict)
    copies: Sequence[str] = ()


def is_ours(thing: Thing) -> bool:
    """Whether a collection or a dashboard is ours, by its description."""
    return str(thing.get("description") or "").endswith(_MARKS)


def original(things: Iterable[Thing]) -> Thing | None:
    """Of those that are ours, the first one created; None if there is none."""
    return min(filter(is_ours, things), key=lambda thing: int(thing["id"]), default=None)


def find(
    wanted: Sequence[Question], listed: Sequence[Thing], on_dashboard: Sequence[Thing], trashed: Sequence[Thing]
) -> Found:
    """Tell the questions apart: those in our collection, those on our dashboard, and those in the trash.

    A question that a person moved to another collection is found as long as it is on the dashboard.
    """
    by_key: dict[str, dict[int, Thing]] = {}
    for card in (*listed, *on_dashboard, *trashed):
        key = key_of(card.get("description"))
        if key is not None:
            by_key.setdefault(key, {})[card["id"]] = card
    ids = {key: min(cards) for key, cards in by_key.items()}
    keyless = [card for card in listed if key_of(card.get("description")) is None]
    shown = {card["id"] for card in on_dashboard}
    surplus: dict[int, str] = {}
    for question in wanted:
        named = [card for card in keyless if card["name"] == question.name]
        if question.key not in ids and named:
            best = min(
                named, key=lambda card: (card["id"] not in shown, card["description"] != question.told, card["id"])
            )
            ids[question.key] = best["id"]
        texts = {question.told} | {card["description"] for card in named if card["id"] == ids.get(question.key)}
        same = (card for card in named if card["description"] in texts - {None, ""})
        surplus |= {card["id"]: card["name"] for card in same if card["id"] != ids.get(question.key)}
    kept = {question.key for question in wanted}
    in_collection = {card["id"]: card["name"] for card in listed}
    gone = {ids[key] for key in ids.keys() - kept} & in_collection.keys()
    copies = [card["name"] for key, cards in by_key.items() for card in cards.values() if card["id"] != ids[key]]
    return Found(
        ids={key: ids[key] for key in kept & ids.keys()},
        surplus=surplus | {number: in_collection[number] for number in sorted(gone)},
        copies=sorted(copies),
    )
