"""Watch: look repeatedly, and notify once when an alert fires and once when it is resolved.

What the channels were told is stored in a file, MART_HOME/watch.json, and not in the mart: it must be known while
PostgreSQL is unavailable, and so the watch can run as analytics_reader, which cannot write.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from filelock import FileLock
from pydantic import BaseModel, ValidationError

from conf.settings import Settings, SettingsError
from conf.terminal import Table, prose
from mart.status import Observed, observe
from operations.alerts import CONDITIONS, Alert, Judgement, Message, compose, due, judge
from operations.notify import Channel, NotDeliveredError

log = structlog.get_logger()
_SERVERS = {"mart": "PostgreSQL", "broker": "Kafka"}


class State(BaseModel):
    """What is stored between two looks: when the last one was, what has been firing since when, and what each channel
    was told to be firing, since when."""

    looked_at: datetime | None = None
    firing: dict[Alert, datetime] = {}
    told: dict[str, dict[Alert, datetime]] = {}

    def after(self, judgement: Judgement, now: datetime) -> State:
        """The state after another look: what continues, or cannot be judged, keeps its start."""
        firing = {alert: self.firing.get(alert, now) for alert in judgement.firing}
        firing |= {alert: since for alert, since in self.firing.items() if alert in judgement.unknown}
        return State(looked_at=now, firing=firing, told=self.told)


@dataclass(frozen=True)
class Look:
    """One look: what was observed and judged, and how many messages could not be delivered."""

    observed: Observed
    judgement: Judgement
    undelivered: int


class Log:
    """The channel that always exists: the log."""

    name = "log"

    def send(self, message: Message) -> None:
        text = " | ".join(message.text.splitlines())
        (log.warning if message.firing else log.info)("alert", subject=message.subject, text=text)


class Watch:
    """Looks, with the channels and the file of what they were told.

    Raises SettingsError if that file cannot be in MART_HOME.
    """

    def __init__(self, settings: Settings, channels: Sequence[Channel]) -> None:
        self._settings = settings
        self._channels = {channel.name: channel for channel in (Log(), *channels)}
        self._path = settings.mart_home / "watch.json"
        try:
            settings.mart_home.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(settings.mart_home / "watch.lock")
            with self._lock:
                pass
        except OSError as error:
            raise SettingsError(
                f"MART_HOME={settings.mart_home}: what was told cannot be kept there ({error.strerror})"
            ) from None
        self._unsaved: State | None = None
        brokers = settings.kafka_bootstrap_servers or "no broker"
        self._where = f"topic {settings.kafka_topic} on {brokers}, from {socket.gethostname()}"

    def look(self) -> Look:
        """Look once and report what is new. Concurrent looks on this machine take turns, so that nobody is notified
        twice.

        What a channel does not accept is sent after the next look, if it still holds then.
        """
        with self._lock:
            state = self._unsaved or read_state(self._path)
            observed = observe(self._settings)
            judgement = judge(observed, self._settings, state.firing)
            now = datetime.now(UTC)
            state = state.after(judgement, now)
            self._save(state)
            undelivered = 0
            for notice in due(state.firing, judgement.unknown, state.told, self._channels):
                message = compose(notice, judgement.firing.get(notice.alert, ""), now, self._where)
                try:
                    self._channels[notice.channel].send(message)
                except NotDeliveredError as error:
                    undelivered += 1
                    log.error("not delivered", channel=notice.channel, alert=notice.alert, reason=str(error))
                    continue
                told = state.told.setdefault(notice.channel, {})
                if notice.firing:
                    told[notice.alert] = notice.since
                else:
                    del told[notice.alert]
                self._save(state)  # after each: a crash repeats at most the message that was on its way
        return Look(observed, judgement, undelivered)

    def run(self, every_seconds: float, stopping: threading.Event) -> None:
        """Look every so many seconds until `stopping` is set."""
        log.info("watching", every_seconds=every_seconds, channels=sorted(self._channels), state=str(self._path))
        while not stopping.is_set():
            look = self.look()
            log.debug("looked", firing=sorted(look.judgement.firing), unknown=sorted(look.judgement.unknown))
            stopping.wait(every_seconds)

    def _save(self, state: State) -> None:
        """A full disk must not silence the watch: it then remembers in memory, until it ends."""
        try:
            write_state(self._path, state)
            self._unsaved = None
        except OSError as error:
            self._unsaved = state
            log.error("state not written", path=str(self._path), reason=str(error))


def read_state(path: Path) -> State:
    """The stored state; an empty one if there is no file, or none that can be parsed (then everything is told
    again)."""
    try:
        return State.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return State()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        log.warning("state not readable, beginning anew", path=str(path), reason=str(error).splitlines()[0])
        return State()


def write_state(path: Path, state: State) -> None:
    """Replace the file atomically: a crash leaves the old one or the new one."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(state.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def describe(look: Look, settings: Settings) -> Table:
    """A look as a table: each alert, whether it fires, and what was found, else its limit."""
    table = Table("alert", "state", prose("found, or the limit"))
    for alert in Alert:
        found, condition = look.judgement.firing.get(alert), CONDITIONS[alert]
        limit = condition.limit and getattr(settings, condition.limit)
        if found:
            table.add(alert, "fires", f"{condition.title}: {found}", style="red")
        elif alert in look.judgement.unknown:
            table.add(alert, "unknown", f"no answer from {' and '.join(map(_SERVERS.__getitem__, condition.asks))}")
        elif condition.limit and not limit:
            table.add(alert, "off", f"{condition.limit.upper()}=0")
        else:
            table.add(alert, "fine", f"{condition.limit.upper()}={limit:.10g}" if condition.limit else "always on")
    return table
