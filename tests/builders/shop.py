"""A mart and a lake that got the same records, without Spark and Kafka."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg2
import pyarrow as pa

from conf.settings import Settings
from lake.table import open_lake
from operations.repair import Repaired, repair
from operations.verify import verify
from streaming.apply import Applied, apply_batch
from streaming.land import land_batch
from streaming.parse import parse_records
from tests.builders.applied import AT, SCHEMA, TOPIC, Mart
from tests.builders.records import encode
from torture.oracle import ADMIN_CODES

ZONE = ZoneInfo("Asia/Jakarta")


def cleaned(parsed: pa.Table) -> pa.Table:
    """As streaming.clean, for the stock codes of random_events."""
    found = []
    for row in parsed.to_pylist():
        lines = row.pop("lines")
        if lines is not None:
            is_return = row["invoice"].startswith("C")
            products = [n for n in lines if n["price"] > 0 and n["stock_code"] not in ADMIN_CODES]
            counting = [n for n in products if n["quantity"] > 0 and not is_return]
            returned = [n for n in products if n["quantity"] < 0]
            row |= {
                "line_count": len(lines),
                "counting_lines": len(counting),
                "purchased": sum((n["quantity"] * n["price"] for n in counting), Decimal(0)),
                "returned": sum((n["quantity"] * n["price"] for n in returned), Decimal(0)),
            }
        found.append(row)
    return pa.Table.from_pylist(found, schema=SCHEMA)


class Shop:
    """A mart and a lake that got the same records."""

    def __init__(self, fresh_mart, tmp_path, policy="ignore") -> None:
        self.mart = Mart(fresh_mart, policy)
        self.settings = Settings(
            kafka_topic=TOPIC.name,
            mart_dsn=fresh_mart.writer_dsn,
            mart_owner_dsn=fresh_mart.owner_dsn,
            mart_reader_dsn=fresh_mart.reader_dsn,
            mart_home=tmp_path / "home",
            lake_path=str(tmp_path / "lake"),
            returns_policy=policy,
        )
        self.lake = open_lake(self.settings.lake)
        self.topic = TOPIC
        self.next_offsets = {0: 0, 1: 0}
        self.sent = 0
        self.sent_batches: list[pa.Table] = []

    def records(self, events: list[dict | bytes], ago: timedelta = timedelta(0)) -> pa.Table:
        """The events as parsed records of the topic's two partitions, a millisecond apart; produced so long ago."""
        values, partitions, offsets, timestamps = [], [], [], []
        for one in events:
            value = one if isinstance(one, bytes) else encode([one])[0][1]
            partition = len(value) % 2
            values.append(value)
            partitions.append(partition)
            offsets.append(self.next_offsets[partition])
            timestamps.append(AT + timedelta(days=365, milliseconds=self.sent) - ago)
            self.next_offsets[partition] += 1
            self.sent += 1
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(values, pa.binary()),
                pa.array(partitions, pa.int32()),
                pa.array(offsets, pa.int64()),
                pa.array(timestamps, pa.timestamp("us", "UTC")),
            ],
            ["value", "partition", "offset", "timestamp"],
        )
        return pa.Table.from_batches([parse_records(batch, ZONE, 1_000_000)])

    def apply(self, parsed: pa.Table) -> Applied:
        return apply_batch(
            self.mart.connection,
            self.mart.writer,
            cleaned(parsed),
            lambda coordinates: dict.fromkeys(coordinates, b"raw"),
        )

    def land(self, parsed: pa.Table) -> None:
        land_batch(self.lake, self.topic, parsed.drop(["detail", "raw"]))

    def send(self, events: list[dict | bytes], ago: timedelta = timedelta(0)) -> Applied:
        parsed = self.records(events, ago)
        self.sent_batches.append(parsed)
        self.land(parsed)
        return self.apply(parsed)

    def spoil(self, statement: str) -> None:
        with closing(psycopg2.connect(self.mart.dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)
            assert cursor.rowcount, "this must spoil something"

    def verify(self) -> dict[str, int]:
        """What differs."""
        return {name: count for name, count in verify(self.settings, wait_seconds=0).differing.items() if count}

    def repair(self, **options) -> Repaired:
        return repair(self.settings, wait_seconds=0, **options)
