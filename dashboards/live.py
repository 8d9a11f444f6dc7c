"""Live: run each card's query when it is due, once for all viewers, and tell them what changed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conf.errors import UnavailableError
from dashboards.cards import Card
from dashboards.reader import Reader, RefusedError
from sql import statement

_TICK_SECONDS = 1.0
_PUSH_SECONDS = 0.5  # a new batch is shown at once, but not more often than this
_STALE_SECONDS = 2.0
_STATUS_COLUMNS = [
    "invoices",
    "last_batch_at",
    "since_batch_ms",
    "newest_invoice_date",
    "time_zone",
    "writer_topic",
    "writer_epoch",
    "writer_application",
    "writer_started_at",
    "writer_connected",
]


# Asked only while no batch comes: PostgreSQL holds its table of locks still for the answer.
_QUIET_MILLISECONDS = 10_000
_OF_THE_JOB = {"pid": None, "application": "retail-mart streaming"}
_BLOCKER_COLUMNS = [
    *("since", "seconds", "relation", "mode", "pid", "role", "application", "in_transaction_since", "statement")
]
_SHOWN_OF_A_BLOCKER = ("since", "relation", "pid", "role", "application")


@dataclass(frozen=True)
class Answer:
    """The latest result of one card or of the status: JSON text, and the version in which it became so."""

    text: str
    version: int


class Live:
    """The newest results, kept current by one thread as long as somebody watches.

    `version` grows with each new result; `changed` is called, from that thread, after one or more of them.
    """

    def __init__(self, reader: Reader, cards: Sequence[Card], changed: Callable[[], None] = lambda: None) -> None:
        self._reader, self._cards, self.changed = reader, cards, changed
        self._answers: dict[str, Answer] = {}
        self._asked_at: dict[str, float] = {}
        self.version = 0
        self._unavailable_since: datetime | None = None
        self._refreshed_at = 0.0
        self._viewers = 0
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            self._reader.close()

    def enter(self) -> None:
        """A viewer came. Pair with `leave`; both from one thread."""
        if not self._viewers and time.monotonic() - self._refreshed_at > _STALE_SECONDS:
            self._answers.clear()  # nobody watched, so nobody asked: better nothing for a moment than the past
            self._asked_at.clear()
        self._viewers += 1
        self._wanted.set()

    def leave(self) -> None:
        self._viewers -= 1
        if not self._viewers:
            self._wanted.clear()

    def since(self, version: int) -> tuple[int, list[str]]:
        """The newest version, and the events (JSON texts) that a viewer who has `version` lacks."""
        newer = [a for a in list(self._answers.values()) if a.version > version]
        return max((a.version for a in newer), default=version), [a.text for a in newer]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            try:
                pushed = self._reader.batch_came(max(0.0, self._refreshed_at + _TICK_SECONDS - time.monotonic()))
                if pushed:
                    self._stopping.wait(max(0.0, self._refreshed_at + _PUSH_SECONDS - time.monotonic()))
                if self._stopping.is_set():
                    return
                self._refreshed_at = time.monotonic()
                self.refresh(pushed)
            except UnavailableError as error:
                self._say_unavailable(str(error))
                self.changed()
                self._stopping.wait(_TICK_SECONDS)

    def refresh(self, pushed: bool = False) -> None:
        """Ask the status and every card that is due; after a batch, also those of the shortest refresh. Raises
        UnavailableError."""
        self._say_status()
        now = time.monotonic()
        for card in self._cards:
            asked = self._asked_at.get(card.name)
            quick = pushed and card.refresh_seconds == 1
            if asked is None or quick or now - asked >= card.refresh_seconds - 0.05:
                self._asked_at[card.name] = now
                self._ask(card)
        self.changed()

    def _ask(self, card: Card) -> None:
        try:
            answer: dict[str, Any] = {"card": card.name, "rows": self._reader.rows(card.sql)}
        except RefusedError as error:
            answer = {"card": card.name, "error": str(error)}
        self._set(card.name, answer)

    def _say_status(self) -> None:
        try:
            rows = self._reader.records(statement("dashboards/status"), {}, _STATUS_COLUMNS)
            status: dict[str, Any] = {"mart": "here", **(rows[0] if rows else {})}
            if _is_quiet(status):
                status["blockers"] = self._blockers()
        except RefusedError as error:
            status = {"mart": "refuses", "reason": str(error)}
        if self._unavailable_since is not None:
            self._unavailable_since = None
            self._asked_at.clear()  # everything may be otherwise now
        self._set("", {"status": status})

    def _blockers(self) -> list[dict[str, Any]]:
        """Who has made the job wait for a lock for as long as that, and for what."""
        found = self._reader.records(statement("locks/blockers"), _OF_THE_JOB, _BLOCKER_COLUMNS)
        return [
            {name: blocker[name] for name in _SHOWN_OF_A_BLOCKER}
            for blocker in found
            if isinstance(seconds := blocker["seconds"], float) and seconds * 1000 > _QUIET_MILLISECONDS
        ]

    def _say_unavailable(self, reason: str) -> None:
        self._unavailable_since = self._unavailable_since or datetime.now(UTC)
        self._set(
            "", {"status": {"mart": "unavailable", "reason": reason, "since": self._unavailable_since.isoformat()}}
        )

    def _set(self, name: str, answer: dict[str, Any]) -> None:
        text = json.dumps(answer, separators=(",", ":"), allow_nan=False)
        known = self._answers.get(name)
        if known is None or known.text != text:
            self._answers[name] = Answer(text, self.version + 1)
            self.version += 1


def _is_quiet(status: Mapping[str, Any]) -> bool:
    """Whether a job is connected, and has committed nothing for so long that a lock may be why."""
    since = status.get("since_batch_ms")
    return bool(status.get("writer_connected")) and (since is None or since > _QUIET_MILLISECONDS)
