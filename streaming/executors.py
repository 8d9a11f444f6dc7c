"""Executors: run a step on a micro-batch's records where they were read, and bring its rows to the driver."""

from __future__ import annotations

import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from topic.record import RECORD_SCHEMA

Step = Callable[[pa.RecordBatch], pa.RecordBatch]
# This class of Spark's source, which makes a row of a record, is in the trace of a task that fails there.
_ROW_MAKER = "KafkaRecordToRowConverter"
_SAID_OF_A_TASK = re.compile(r"most recent failure:[^\n]*?((?:\w+\.)+\w+: [^\n]+)")


class UnreadableError(Exception):
    """Spark's Kafka source fails on a record before it has made a row of it. Another reader may succeed."""


def collect(records: DataFrame, step: Step, niceness: int = 0) -> pa.Table:
    """Run `step` on Kafka's records (RECORD_SCHEMA) on the executors and collect its rows as a table on the driver.

    The rows travel as Arrow, as one value of one Spark row per batch, so that Spark neither takes rows apart nor builds
    them. `niceness` is added to that of the thread that runs the step, on Linux: work that may wait does not take the
    processor from other work on the same executors.
    """
    return collect_up_to(records, step, None, niceness).rows


@dataclass(frozen=True)
class Collected:
    """The rows, their weight (see collect_up_to), and whether all records were read."""

    rows: pa.Table
    weight: int
    whole: bool


def collect_up_to(records: DataFrame, step: Step, most_bytes: int | None, niceness: int = 0) -> Collected:
    """The same, but a task stops reading when its weight reaches `most_bytes`: the bytes of its rows, which come to the
    driver, plus a quarter of the bytes of the values, so that a slice of very large records ends too. Raises
    UnreadableError if there is a record that Spark's source cannot turn into a row."""
    read = records.select(*RECORD_SCHEMA.names)
    try:
        packed = read.mapInArrow(_packing(step, niceness, most_bytes), "rows BINARY, weight BIGINT").toArrow()
    except (PySparkException, Py4JJavaError) as error:
        if _ROW_MAKER not in str(error):
            raise
        said = _SAID_OF_A_TASK.search(str(error))
        raise UnreadableError(said[1] if said else type(error).__name__) from None
    tables = [pa.ipc.open_stream(rows.as_buffer()).read_all() for rows in packed["rows"] if rows.is_valid]
    return Collected(
        pa.concat_tables(tables) if tables else pa.Table.from_batches([step(no_records())]),
        pc.sum(packed["weight"]).as_py() or 0,
        whole=not packed["rows"].null_count,
    )


def no_records() -> pa.RecordBatch:
    """A batch from which a step makes no rows, but with its columns."""
    return pa.RecordBatch.from_pylist([], RECORD_SCHEMA)


def _packed(rows: bytes | None, weight: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"rows": pa.array([rows], pa.binary()), "weight": pa.array([weight], pa.int64())})


def _packing(
    step: Step, niceness: int, most_bytes: int | None = None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def pack(records: pa.RecordBatch) -> pa.RecordBatch:
        rows = step(records)
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_batch(rows)
        packed = stream.getvalue()
        return _packed(packed, len(packed) + records["value"].nbytes // 4)

    def until_enough(
        batches: Iterator[pa.RecordBatch], pack: Callable[[pa.RecordBatch], pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        weight = 0
        for records in batches:
            if most_bytes is not None and weight >= most_bytes:
                yield _packed(None, 0)  # there is more
                return
            packed = pack(records)
            weight += packed["weight"][0].as_py()
            yield packed

    def pack_all(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # PySpark's worker collects garbage after each task, and all modules with it, unless they are put aside once:
        # that took longer than the work on a small batch.
        if not gc.get_freeze_count():
            gc.freeze()
        if not niceness or sys.platform != "linux":
            yield from until_enough(batches, pack)
            return
        # In a thread, which on Linux has a niceness of its own: a worker cannot be made less nice again, and the next
        # task that Spark gives it may be urgent.
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(niceness,)) as thread:
            yield from until_enough(batches, lambda records: thread.submit(pack, records).result())

    return pack_all
