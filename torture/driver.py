"""The job's own path from Kafka to the mart and the lake, without Spark, so that a life of it costs a second.

Everything that makes it exactly once is the job's code: the positions, the fence, the gaps, parse, apply, land. Only
what carries the records (Spark's micro-batches) and adds up their lines (Spark SQL) is stood in for: by a plain
consumer, and by the oracle's arithmetic. The whole job is tortured too, less often: torture.job.

`python -m torture.driver --batch 50 [--kill POINT TIMES] [--stop POINT TIMES] [--mutant NAME]` catches up and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Mapping

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition

import streaming.apply_job as apply_job
import streaming.land_job as land_job
from conf.errors import FencedError, StreamingError
from conf.kafka import Brokers
from conf.settings import Settings, settings
from mart.shop_rules import describe_shop
from streaming.apply import Coordinates
from streaming.apply_job import cleaning
from topic.describe import READ_COMMITTED, Topic, describe_topic
from topic.offsets import Covered, starting_offsets
from torture import kill_points, mutants


def main() -> int:
    arguments = _arguments()
    if arguments.kill:
        kill_points.install(arguments.kill[0], int(arguments.kill[1]))
    if arguments.stop:
        kill_points.install(arguments.stop[0], int(arguments.stop[1]), kill_points.stop_me)
    if arguments.mutant:  # last: a mutant passes by the points of what it replaces
        mutants.install(arguments.mutant)
    current = settings()
    try:
        # Turn by turn, as the two queries of the job would, each from its own store's positions.
        turns = [_apply(current, arguments.batch), _land(current, arguments.batch)]
        while turns:
            turns = [turn for turn in turns if next(turn, None) is not None]
    except FencedError as error:
        print(error, file=sys.stderr)
        return 3
    except StreamingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _apply(current: Settings, size: int) -> Iterator[int]:
    """Apply batch after batch to the topic's end, as ApplyJob does."""
    topic = describe_topic(Brokers.of(current), current.kafka_topic)
    connection = apply_job.connect(current.require_mart())
    describe_shop(connection, current)
    with connection, connection.cursor() as cursor:
        writer = apply_job.take_over(cursor, topic, apply_job.application_name())
        apply_job.check_topic(cursor, topic)
        start = starting_offsets(apply_job.read_positions(cursor, topic), topic)
    for records, covered in _batches(current, topic, start, size):
        values = dict(zip(_coordinates(records), records["value"].to_pylist(), strict=True))
        batch = pa.Table.from_batches([cleaning(current)(records)])

        def raw_values(wanted, values=values) -> Mapping[Coordinates, bytes]:  # type: ignore[no-untyped-def]
            return {at: values[at] for at in wanted}

        apply_job.apply_batch(connection, writer, batch, raw_values, covered=covered)
        yield records.num_rows


def _land(current: Settings, size: int) -> Iterator[int]:
    """Land batch after batch to the topic's end, as LandJob does."""
    topic = describe_topic(Brokers.of(current), current.kafka_topic)
    table = land_job.open_lake(current.lake)
    land_job.check_topic(table, topic)
    start = starting_offsets(land_job.read_positions(table, topic, topic.end_offsets), topic, store="the lake")
    for records, covered in _batches(current, topic, start, size):
        parsed = land_job.parsing(current)(records)
        land_job.land_batch(table, topic, pa.Table.from_batches([parsed]), covered)
        yield records.num_rows


def _batches(
    current: Settings, topic: Topic, start: Mapping[int, int], size: int
) -> Iterator[tuple[pa.RecordBatch, Covered]]:
    """The topic's records from `start` to its end of now, in batches of at most `size`, and what each covers."""
    consumer = KafkaConsumer(
        bootstrap_servers=current.require_kafka(), enable_auto_commit=False, isolation_level=READ_COMMITTED
    )
    reached = dict(start)
    consumer.assign([TopicPartition(topic.name, partition) for partition in start])
    for partition, offset in start.items():
        consumer.seek(TopicPartition(topic.name, partition), offset)
    try:
        while any(offset < topic.end_offsets[partition] for partition, offset in reached.items()):
            polled = consumer.poll(timeout_ms=1000, max_records=size)
            records = [r for of_partition in polled.values() for r in of_partition]
            now = {partition: consumer.position(TopicPartition(topic.name, partition)) for partition in reached}
            if covered := {p: (reached[p], now[p]) for p in reached if now[p] > reached[p]}:
                reached = now
                batch = pa.RecordBatch.from_pydict(
                    {
                        "value": pa.array([r.value for r in records], pa.binary()),
                        "partition": pa.array([r.partition for r in records], pa.int32()),
                        "offset": pa.array([r.offset for r in records], pa.int64()),
                        "timestamp": pa.array([r.timestamp * 1000 for r in records], pa.timestamp("us", "UTC")),
                    }
                )
                yield batch, covered
    finally:
        consumer.close()


def _coordinates(records: pa.RecordBatch) -> list[Coordinates]:
    return list(zip(records["partition"].to_pylist(), records["offset"].to_pylist(), strict=True))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture.driver")
    parser.add_argument("--batch", type=int, default=50, help="most records in a batch")
    parser.add_argument("--kill", nargs=2, metavar=("POINT", "TIMES"))
    parser.add_argument("--stop", nargs=2, metavar=("POINT", "TIMES"))
    parser.add_argument("--mutant")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # a consumer's thread would keep a failed process alive
