"""Write CSV files as the lake that the landing query would leave behind, without Kafka or a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from conf.lake import LAKE_PARTITION, LAKE_SCHEMA
from producer.csv_invoices import Invoice, csv_files, read_invoices
from producer.event import event

_LANDED_FROM = datetime(2026, 1, 1, tzinfo=UTC)


def landed(invoices: Iterable[Invoice], first_offset: int = 0) -> pa.Table:
    """The invoices as lake rows: one Kafka partition, offsets from `first_offset` on, a millisecond apart."""
    rows = []
    for offset, invoice in enumerate(invoices, first_offset):
        rows.append(
            {
                "invoice": invoice.number,
                "invoice_date": invoice.date,
                "business_date": invoice.date.date(),
                "customer_id": invoice.customer_id,
                "lines": [line._asdict() | {"price": Decimal(line.price)} for line in invoice.lines],
                "content_sha256": hashlib.sha256(event(invoice)).hexdigest(),
                "topic": "invoices",
                "partition": 0,
                "offset": offset,
                "kafka_timestamp": _LANDED_FROM + timedelta(milliseconds=offset),
            }
        )
    return pa.Table.from_pylist(rows, schema=LAKE_SCHEMA)


def write_lake(spark: SparkSession, rows: pa.Table, path: str) -> int:
    """Append the rows to the Delta table at `path` (created if absent); returns the table's new version."""
    frame = spark.createDataFrame(rows, schema=from_arrow_schema(LAKE_SCHEMA, prefer_timestamp_ntz=True))
    frame.repartition(2, LAKE_PARTITION).write.format("delta").partitionBy(LAKE_PARTITION).mode("append").save(path)
    newest = spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").first()
    assert newest is not None  # noqa: S101
    return int(newest["version"])


def csv_invoices(paths: Sequence[Path]) -> list[Invoice]:
    """The invoices of CSV files and folders, in the order of the files; unreadable lines are left out."""
    return [invoice for file in csv_files(paths) for invoice in read_invoices(file)[0]]
