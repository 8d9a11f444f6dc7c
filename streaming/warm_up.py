"""Warm up: run the path from records to Arrow on synthetic invoices, so that the first real ones find a warm JVM."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from streaming.executors import Step, collect

RECORDS = 500
RECORD_COLUMNS = "value BINARY, partition INT, offset BIGINT, timestamp TIMESTAMP"


def warm_up(spark: SparkSession, step: Step, rounds: int) -> float:
    """Run the executors' step on `rounds` small batches and discard the results; returns the seconds it took.

    Touches neither Kafka nor the mart.
    """
    start = time.perf_counter()
    now = datetime.now(UTC)
    for round_number in range(rounds):
        records = [(example_invoice(round_number * RECORDS + n, now), n % 2, n, now) for n in range(RECORDS)]
        frame = spark.createDataFrame(records, RECORD_COLUMNS)
        collect(frame, step)
    return time.perf_counter() - start


def example_invoice(number: int, now: datetime) -> bytes:
    """The value of a synthetic record: an invoice of 4 lines at the time `now`."""
    lines = [
        {"stock_code": f"WARM-{n}", "description": "warm-up", "quantity": n + 1, "price": "1.50"} for n in range(4)
    ]
    return json.dumps(
        {
            "version": 1,
            "invoice": str(number),
            "invoice_date": f"{now:%Y-%m-%dT%H:%M:%S}",
            "customer_id": str(number % 100),
            "lines": lines,
        }
    ).encode()
