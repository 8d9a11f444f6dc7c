"""Rows of parsed batches, as landing takes them, and what of them stands in a lake."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
from deltalake import DeltaTable

from streaming.parse import PARSED_SCHEMA
from topic.describe import Topic

TOPIC = Topic("invoices", "11111111-1111-1111-1111-111111111111", {0: 0, 1: 0}, {0: 100, 1: 100})
AT = datetime(2026, 3, 1, 17, tzinfo=UTC)
BATCH_SCHEMA = pa.schema([column for column in PARSED_SCHEMA if column.name not in ("detail", "raw")])


def valid(offset: int, partition: int = 0, day: str = "2026-03-01") -> dict:
    """One row of a parsed batch: invoice `partition-offset` of two lines, late in the evening."""
    return {
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": AT,
        "invoice": f"{partition}-{offset}",
        "invoice_date": datetime.fromisoformat(f"{day}T23:59:59"),
        "customer_id": None if offset % 2 else "c1",
        "lines": [
            {"stock_code": "A1", "description": "an apple", "quantity": 2, "price": Decimal("1.50")},
            {"stock_code": "ONGKIR", "description": "", "quantity": -1, "price": Decimal("0.00")},
        ],
        "content_sha256": "ab" * 32,
    }


def wrong(offset: int, partition: int = 0) -> dict:
    """One row of a parsed batch: a rejected record."""
    return {"partition": partition, "offset": offset, "kafka_timestamp": AT, "reason": "not_json"}


def batch(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=BATCH_SCHEMA)


def landed_coordinates(path: str) -> list[tuple[int, int]]:
    """(partition, offset) of each row in the lake's newest version, sorted; a row twice is there twice."""
    rows = DeltaTable(path).to_pyarrow_table(columns=["partition", "offset"]).to_pylist()
    return sorted((row["partition"], row["offset"]) for row in rows)
