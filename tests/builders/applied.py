"""Rows of cleaned batches, and a mart that takes them without Spark and Kafka."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import psycopg2
import pyarrow as pa

from conf.settings import Settings
from mart.connection import connect
from mart.migrate import migrate
from mart.next_offsets import Writer, take_over
from mart.shop_rules import apply_shop_rules
from streaming.apply import Applied, apply_batch
from streaming.clean import clean
from streaming.parse import PARSED_SCHEMA
from tests.builders.mart_rows import rows
from topic.describe import Topic

TOPIC = Topic("invoices", "11111111-1111-1111-1111-111111111111", {0: 0, 1: 0}, {0: 100, 1: 100})
AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
SCHEMA = clean(pa.RecordBatch.from_pylist([], PARSED_SCHEMA), ()).schema


def cleaned(offset, invoice, date, customer, purchased="1.00", returned="0", counting=1, partition=0, content="same"):
    """One row of a cleaned batch, a valid invoice."""
    return {
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": AT,
        "invoice": invoice,
        "invoice_date": datetime.fromisoformat(date),
        "customer_id": customer,
        "content_sha256": hashlib.sha256(f"{invoice} {content}".encode()).hexdigest(),
        "line_count": max(1, counting),
        "counting_lines": counting,
        "purchased": Decimal(purchased),
        "returned": Decimal(returned),
    }


def wrong(offset, raw, reason="not_json", partition=0):
    """One row of a cleaned batch, a rejected record."""
    return {
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": AT,
        "reason": reason,
        "detail": "why",
        "raw": raw,
    }


class Mart:
    """A migrated mart with one writer."""

    def __init__(self, mart, policy="ignore"):
        self.dsn, self.policy = mart.owner_dsn, policy
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            migrate(owner)
        self.connection = connect(mart.writer_dsn)
        apply_shop_rules(self.connection, Settings(returns_policy=policy))
        self.writer = self.take_over()

    def take_over(self, topic=TOPIC) -> Writer:
        with self.connection, self.connection.cursor() as cursor:
            return take_over(cursor, topic, "test")

    def apply(self, *records, writer=None) -> Applied:
        batch = pa.Table.from_pylist(list(records), schema=SCHEMA)
        return apply_batch(
            self.connection,
            writer or self.writer,
            batch,
            lambda coordinates: {c: b"raw %d %d" % c for c in coordinates},
        )

    def rows(self, statement, parameters=None):
        return rows(self.dsn, statement, parameters)

    def customers(self):
        return self.rows(
            "SELECT customer_id, recency, frequency, monetary, r, f, m, customer_segment"
            " FROM mart.customer_segmentation ORDER BY 1"
        )
