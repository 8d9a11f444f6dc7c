"""Rewind: forget how far the topic is applied and landed, so that the next run reads it from its first record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from conf.kafka import Brokers
from conf.settings import Settings
from lake.table import existing_lake, find_lake, reaching
from lake.table import forget as forget_landed
from mart.connection import application_name, connect
from mart.next_offsets import forget, take_over
from mart.session import session
from topic.describe import Topic, describe_topic


def rewind(settings: Settings, only: Literal["apply", "land"] | None, say: Callable[[str], None]) -> None:
    """Forget both, or `only` the mart's next offsets (apply) or the lake's (land); `say` is told of each.

    A running job of the mart is fenced. Raises StreamingError, UnavailableError.
    """
    topic = describe_topic(Brokers.of(settings), settings.kafka_topic)
    if only != "land":
        _rewind_mart(settings, topic)
        say(f"topic {topic.name!r} will be applied from its first record again")
    if only == "apply":
        return
    table = existing_lake(settings.lake) if only == "land" else find_lake(settings.lake)
    if table is not None:
        with reaching(settings.lake):
            forget_landed(table, topic)
        say(f"topic {topic.name!r} will be landed from its first record again")


def _rewind_mart(settings: Settings, topic: Topic) -> None:
    with (
        session(settings.require_mart(), "retail-mart rewind", connect) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        take_over(cursor, topic, f"{application_name()} (rewind)")
        forget(cursor, topic.name)
