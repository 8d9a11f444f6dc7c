"""The job's own path from Kafka to the mart and the lake, without Spark, so that one life of it costs a second.

Everything that makes it exactly once is the job's code: the next offsets, the fence, the gaps, parse, apply, land. Only
Spark's micro-batches, which carry the records, are replaced, by the plain consumer that the job itself uses for what
Spark cannot read. The whole job is tortured too, less often: torture.job.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated

import pyarrow as pa
import typer

import streaming.apply_job as apply_job
import streaming.land_job as land_job
from conf.errors import FencedError, StreamingError
from conf.kafka import Brokers
from conf.phases import Phases
from conf.settings import Settings, settings
from mart.shop_rules import apply_shop_rules
from topic.consume import consume_range
from topic.describe import Topic, describe_topic
from topic.offsets import Covered, spanned, starting_offsets
from topic.record import RECORD_SCHEMA
from torture import kill_points, mutants


def main(
    batch: Annotated[int, typer.Option(help="Most records in a batch.")] = 60,
    kill: Annotated[tuple[str, int] | None, typer.Option(metavar="POINT TIMES")] = None,
    stop: Annotated[tuple[str, int] | None, typer.Option(metavar="POINT TIMES")] = None,
    mutant: Annotated[str | None, typer.Option(help="The guard to do without.")] = None,
) -> None:
    """Apply and land to the topic's end, in turns, as the two queries of the job would."""
    phases: Callable[[], Phases] = Phases
    if kill:
        phases = kill_points.striking(*kill)
    if stop:
        phases = kill_points.striking(*stop, kill_points.stop_me)
    if mutant:
        mutants.install(mutant)
    current = settings()
    turns = [_apply(current, batch, phases), _land(current, batch, phases)]
    while turns:
        turns = [turn for turn in turns if next(turn, None) is not None]


def _apply(current: Settings, size: int, phases: Callable[[], Phases]) -> Iterator[Covered]:
    """Apply one batch after another to the topic's end, as ApplyJob does."""
    topic = describe_topic(Brokers.of(current), current.kafka_topic)
    connection = apply_job.connect(current.require_mart())
    apply_shop_rules(connection, current)
    with connection, connection.cursor() as cursor:
        with phases()("take over"):
            writer = apply_job.take_over(cursor, topic, apply_job.application_name())
        apply_job.check_topic(cursor, topic)
        start = starting_offsets(apply_job.read_next_offsets(cursor, topic), topic)
    for records, covered in _batches(current, topic, start, size):
        batch = pa.Table.from_batches([apply_job.cleaning(current)(records)])
        raw_values = partial(apply_job._raw_values, pa.Table.from_batches([records]))
        apply_job.apply_batch(connection, writer, batch, raw_values, covered, phases())
        yield covered


def _land(current: Settings, size: int, phases: Callable[[], Phases]) -> Iterator[Covered]:
    """Land one batch after another to the topic's end, as LandJob does."""
    topic = describe_topic(Brokers.of(current), current.kafka_topic)
    table = land_job.open_lake(current.lake)
    land_job.record_topic(table, topic)
    start = starting_offsets(land_job.read_next_offsets(table, topic, topic.end_offsets), topic, store="the lake")
    for records, covered in _batches(current, topic, start, size):
        parsed = land_job.parsing(current)(records)
        land_job.land_batch(table, topic, pa.Table.from_batches([parsed]), covered, phases())
        yield covered


def _batches(
    current: Settings, topic: Topic, start: Mapping[int, int], size: int
) -> Iterator[tuple[pa.RecordBatch, Covered]]:
    """The topic's records from `start` to its current end, in batches of at most `size`, and what each one covers."""
    left = {p: (first, topic.end_offsets[p]) for p, first in start.items() if first < topic.end_offsets[p]}
    everything = sys.maxsize
    records, _ = consume_range(Brokers.of(current), topic.name, left, everything)
    while left:
        batch, records = records[:size].combine_chunks(), records[size:]
        # What is left at the end are offsets without a record: a transaction's marks.
        ends = {p: end for p, (_, end) in (spanned(batch) if records.num_rows else left).items()}
        yield next(iter(batch.to_batches()), _NO_RECORDS), {p: (left[p][0], end) for p, end in ends.items()}
        left = {p: (ends.get(p, first), end) for p, (first, end) in left.items() if ends.get(p, first) < end}


_NO_RECORDS = pa.RecordBatch.from_pylist([], RECORD_SCHEMA)


def _code() -> int:
    try:
        typer.run(main)
    except SystemExit as ended:
        return int(ended.code or 0)
    except FencedError as error:
        print(error, file=sys.stderr)
        return 3
    except StreamingError as error:
        print(error, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    code = _code()
    sys.stderr.flush()
    os._exit(code)  # a consumer's thread would keep a failed process alive
