"""A plain Python consumer: kafka-python, and psycopg2's execute_values for each poll.

Invoice numbers are stored, so that a redelivered message counts once.
"""

from __future__ import annotations

import sys

import psycopg2
from kafka import KafkaConsumer
from psycopg2.extras import execute_values

from bench.peers.invoice import Purchase, Totals, read_purchase
from sql import statement

_INVOICES_AT_A_TIME = 10_000


def main(bootstrap: str, topic: str, dsn: str, _folder: str) -> None:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id="plain",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=_INVOICES_AT_A_TIME,
        max_partition_fetch_bytes=8 * 2**20,
        fetch_max_bytes=32 * 2**20,
    )
    connection = psycopg2.connect(dsn)
    while True:
        records = [record for of_one in consumer.poll(timeout_ms=100).values() for record in of_one]
        purchases = [(read_purchase(record.value), record.timestamp) for record in records]
        if records:
            apply(connection, [(p, timestamp) for p, timestamp in purchases if p is not None])
            consumer.commit()


def apply(connection: psycopg2.extensions.connection, purchases: list[tuple[Purchase, int]]) -> None:
    """One transaction: the invoices that are new, and what they add to their customers."""
    with connection, connection.cursor() as cursor:
        inserted = execute_values(
            cursor,
            statement("bench/peer_insert_invoices"),
            [(p.invoice, p.invoice_date, p.customer_id, p.cents) for p, _ in purchases],
            page_size=_INVOICES_AT_A_TIME,
            fetch=True,
        )
        fresh = {invoice for (invoice,) in inserted}
        customers: dict[str, Totals] = {}
        for p, timestamp in purchases:
            if p.invoice in fresh:
                fresh.remove(p.invoice)
                customers[p.customer_id] = customers.get(p.customer_id, Totals()).plus(p, timestamp)
        rows = [totals.row(customer_id) for customer_id, totals in customers.items()]
        execute_values(cursor, statement("bench/peer_upsert_customers"), rows, page_size=_INVOICES_AT_A_TIME)


if __name__ == "__main__":
    main(*sys.argv[1:])
