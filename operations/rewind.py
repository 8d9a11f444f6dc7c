"""Rewind: forget how far the topic is applied and landed, so that the next run reads it from its first record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from conf.settings import Settings
from lake.table import existing_lake, lake_exists, reaching
from lake.table import forget as forget_landed
from mart.connection import application_name, connect
from mart.positions import forget, take_over
from mart.session import session
from topic.describe import Topic, describe_topic


def rewind(settings: Settings, only: Literal["apply", "land"] | None, say: Callable[[str], None]) -> None:
    """Forget both, or `only` the mart's positions (apply) or the lake's (land); `say` is told of each.

    A running job of the mart is fenced. Raises StreamingError, UnavailableError.
    """
    topic = describe_topic(
        settings.require_kafka(), settings.kafka_topic, settings.kafka_timeout_seconds, settings.kafka_security()
    )
    if only != "land":
        _rewind_mart(settings, topic)
        say(f"topic {topic.name!r} will be applied from its first record again")
    if only == "land" or (only is None and lake_exists(settings.lake)):
        with reaching(settings.lake):
            forget_landed(existing_lake(settings.lake), topic)
        say(f"topic {topic.name!r} will be landed from its first record again")


def _rewind_mart(settings: Settings, topic: Topic) -> None:
    with (
        session(settings.require_mart(), "retail-mart rewind", connect) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        take_over(cursor, topic, f"{application_name()} (rewind)")
        forget(cursor, topic.name)
