"""Executors: run a step on a micro-batch's records where they were read, and bring its rows to the driver."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyspark.sql import DataFrame

Step = Callable[[pa.RecordBatch], pa.RecordBatch]
RECORD_SCHEMA = pa.schema(
    [
        ("value", pa.binary()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)


def collect(records: DataFrame, step: Step, niceness: int = 0) -> pa.Table:
    """Kafka's records → the rows that `step` makes of them, RECORD_SCHEMA in, as a table on the driver.

    The rows travel in Arrow's own form, as one value of one Spark row a batch: Spark takes none apart and builds none
    anew. `niceness` is added to the stepping thread's, on Linux: work that may wait does not take the processor from
    other work on the same executors.
    """
    packed = records.select(*RECORD_SCHEMA.names).mapInArrow(_packing(step, niceness), "rows BINARY").toArrow()
    tables = [pa.ipc.open_stream(rows.as_buffer()).read_all() for rows in packed["rows"]]
    return pa.concat_tables(tables) if tables else pa.Table.from_batches([step(_no_records())])


def _no_records() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], RECORD_SCHEMA)


def _packing(step: Step, niceness: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def pack(records: pa.RecordBatch) -> pa.RecordBatch:
        rows = step(records)
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_batch(rows)
        return pa.RecordBatch.from_arrays([pa.array([stream.getvalue()], pa.binary())], names=["rows"])

    def pack_all(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if not niceness or sys.platform != "linux":
            yield from map(pack, batches)
            return
        # In a thread, which on Linux has a niceness of its own: a worker cannot be made less nice again, and the next
        # task that Spark gives it may be urgent.
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(niceness,)) as thread:
            for batch in batches:
                yield thread.submit(pack, batch).result()

    return pack_all
