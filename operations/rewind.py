"""Rewind: forget how far the topic is applied and landed, so that the next run reads it from its first record.

Of mart and lake together, or of neither: the lake forgets within the mart's transaction, behind the running batch, and
takes its turn with the commits of a landing that still runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deltalake import DeltaTable

from conf.counted import counted
from conf.kafka import Brokers
from conf.settings import Settings
from lake.table import committed, existing_lake, find_lake
from lake.table import forget as forget_landed
from mart.connection import application_name, connect
from mart.next_offsets import forget, take_over
from mart.session import session
from sql import one_row, statement
from topic.describe import Topic, describe_topic

Only = Literal["apply", "land"] | None


@dataclass(frozen=True)
class Outlook:
    """What a rewind leads to: the records that will be read again, in about so many seconds (None: nobody knows), and
    the job that is connected to the mart now, if any."""

    topic: str
    records: int
    seconds: float | None
    job: str | None


def look(settings: Settings, only: Only) -> Outlook:
    """What a rewind would lead to now. Changes nothing. Raises StreamingError, UnavailableError."""
    topic = describe_topic(Brokers.of(settings), settings.kafka_topic)
    records = sum(end - topic.first_offsets[partition] for partition, end in topic.end_offsets.items())
    if only == "land":
        existing_lake(settings.lake)
        return Outlook(topic.name, records, None, None)
    with (
        session(settings.require_mart(), "retail-mart rewind") as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement("rewind/look"), {"topic": topic.name})
        job, records_a_second = one_row(cursor)
    return Outlook(topic.name, records, records / records_a_second if records_a_second else None, job)


def describe(outlook: Outlook, only: Only) -> str:
    """The outlook in words, for who has to decide."""
    where = {"apply": "into the mart", "land": "into the lake", None: "into mart and lake"}[only]
    how_long = "" if outlook.seconds is None else f", which takes about {max(1, outlook.seconds):,.0f} s"
    read = f"The next run reads topic {outlook.topic!r} {where} from its first record again: "
    twice = f"{counted(outlook.records, 'record')}{how_long}. Nothing is counted twice."
    job = f" The job {outlook.job} is running: it is fenced at its next batch, start it again then."
    return read + twice + (job if outlook.job else "")


def rewind(settings: Settings, only: Only, say: Callable[[str], None]) -> None:
    """Forget both, or `only` the mart's next offsets (apply) or the lake's (land); `say` is told of each.

    A running job of the mart is fenced. Raises StreamingError, UnavailableError: then nothing is forgotten, or the lake
    alone, if PostgreSQL fails at the commit; it may be run again.
    """
    topic = describe_topic(Brokers.of(settings), settings.kafka_topic)
    if only == "land":
        table: DeltaTable | None = existing_lake(settings.lake)
        _rewind_lake(table, topic)
    else:
        table = None if only == "apply" else find_lake(settings.lake)
        with (
            session(settings.require_mart(), "retail-mart rewind", connect) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            take_over(cursor, topic, f"{application_name()} (rewind)")
            forget(cursor, topic.name)
            _rewind_lake(table, topic)
        say(f"topic {topic.name!r} will be applied from its first record again")
    if table is not None:
        say(f"topic {topic.name!r} will be landed from its first record again")


def _rewind_lake(table: DeltaTable | None, topic: Topic) -> None:
    if table is not None:
        committed(table, lambda: forget_landed(table, topic))
