"""What the executors run on Arrow batches, here without Spark; with it: tests/integration."""

import os
import sys
from datetime import UTC, datetime
from functools import partial
from threading import get_native_id
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from streaming.executors import _packing, collect
from streaming.parse import PARSED_SCHEMA, parse_records
from tests.builders.values import PRODUCED_AT, event
from topic.record import RECORD_SCHEMA

STEP = partial(parse_records, zone=ZoneInfo("Asia/Jakarta"), max_bytes=1_000_000)
RECORDS = pa.RecordBatch.from_pydict(
    {"value": [event(), b"no"], "partition": [0, 0], "offset": [1, 2], "timestamp": [PRODUCED_AT] * 2}, RECORD_SCHEMA
)


def unpacked(packed: pa.RecordBatch) -> pa.Table:
    [rows] = packed["rows"]
    return pa.ipc.open_stream(rows.as_buffer()).read_all()


def test_a_nice_step_gives_the_same_rows_and_leaves_the_worker_as_urgent_as_it_was():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    [nice] = list(_packing(STEP, 5)(iter([RECORDS])))
    [plain] = list(_packing(STEP, 0)(iter([RECORDS])))
    assert unpacked(nice).equals(unpacked(plain))
    assert unpacked(nice).to_pylist() == STEP(RECORDS).to_pylist()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness a thread")
def test_a_nice_step_runs_at_that_niceness():
    seen = []

    def step(records: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(os.getpriority(os.PRIO_PROCESS, get_native_id()))
        return records

    list(_packing(step, 3)(iter([RECORDS])))
    assert seen == [os.getpriority(os.PRIO_PROCESS, 0) + 3]


@pytest.mark.parametrize("niceness", [0, 3])
def test_a_task_stops_after_enough_bytes_and_says_so(niceness):
    [one] = _packing(STEP, niceness)(iter([RECORDS]))
    weight = one["weight"][0].as_py()
    assert weight == len(one["rows"][0].as_py()) + RECORDS["value"].nbytes // 4
    whole = list(_packing(STEP, niceness, weight * 2)(iter([RECORDS] * 2)))
    assert [packed["rows"].null_count for packed in whole] == [0, 0]
    left = iter([RECORDS] * 5)
    stopped = list(_packing(STEP, niceness, weight * 2)(left))
    assert [packed["rows"].null_count for packed in stopped] == [0, 0, 1]
    assert len(list(left)) == 2  # one was only looked at


@pytest.mark.spark
def test_rows_of_all_partitions_are_collected(spark):
    rows = [(event(invoice=str(n)), n % 3, n, datetime(2025, 1, 1, tzinfo=UTC)) for n in range(50)]
    records = spark.createDataFrame(rows, "value BINARY, partition INT, offset BIGINT, timestamp TIMESTAMP")
    found = collect(records.repartition(3), STEP)
    assert found.schema == PARSED_SCHEMA
    assert sorted(found["invoice"].to_pylist(), key=int) == [str(n) for n in range(50)]
    assert set(found["kafka_timestamp"].to_pylist()) == {datetime(2025, 1, 1, tzinfo=UTC)}


@pytest.mark.spark
def test_no_records_are_no_rows_of_the_same_columns(spark):
    records = spark.createDataFrame([], "value BINARY, partition INT, offset BIGINT, timestamp TIMESTAMP")
    assert collect(records, STEP).equals(PARSED_SCHEMA.empty_table())
