"""What every way must end with: the customers that DuckDB recomputes from what was sent, compared to the cent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pandas as pd
import psycopg2

from bench.peers.invoice import purchase
from demo.recompute import compare, recompute
from sql import statement


def expected_of_topic(bootstrap: str, topic: str) -> pd.DataFrame:
    """The customers after all records of a topic; one row a customer, indexed by customer_id (demo.recompute)."""
    rows = [
        (
            event["invoice"],
            event["invoice_date"],
            event["customer_id"] or "",
            line["stock_code"],
            line["description"],
            str(line["quantity"]),
            line["price"],
        )
        for event in _events(bootstrap, topic)
        for line in event["lines"]
    ]
    columns = ["invoice", "invoice_date", "customer_id", "stock_code", "description", "quantity", "price"]
    return recompute(pd.DataFrame(rows, columns=columns))


def purchases_of_topic(bootstrap: str, topic: str) -> int:
    """How many invoices on a topic count for a customer, in plain Python."""
    return sum(purchase(event) is not None for event in _events(bootstrap, topic))


def _events(bootstrap: str, topic: str) -> Iterator[dict[str, Any]]:
    from kafka import KafkaConsumer, TopicPartition

    with closing(KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=1000, max_records=10_000).values():
                for record in records:
                    yield json.loads(record.value)


def customers_of(dsn: str, name: str) -> pd.DataFrame:
    """The customers as somebody reads them now: the rows of a statement, indexed by customer_id."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(statement(name))
        columns = [column[0] for column in cursor.description or ()]
        return pd.DataFrame(cursor.fetchall(), columns=columns).set_index("customer_id").sort_index()


def wrong(found: pd.DataFrame, expected: pd.DataFrame) -> str | None:
    """None if all customers are equal in every column, to the cent; else what is not, and the first of it."""
    compared = compare(found, expected)
    if compared.equal:
        return None
    first = compared.different.iloc[0].to_dict() if len(compared.different) else ""
    return (
        f"{len(compared.missing):,} customers missing, {len(compared.unexpected):,} too many, "
        f"{len(compared.different):,} values differ {first}".strip()
    )
