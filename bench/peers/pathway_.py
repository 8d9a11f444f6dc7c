"""Pathway: Kafka → groupby and reduce → its own PostgreSQL connector, which keeps a snapshot table current."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pathway as pw
from psycopg2.extensions import parse_dsn

from bench.peers.invoice import purchase

_COMMIT_MILLISECONDS = 100
_BACKLOG = 40_000  # as its documentation advises: without a bound a full topic is pulled into memory at once


class Event(pw.Schema):
    version: int
    invoice: str
    invoice_date: str
    customer_id: str | None
    lines: pw.Json


@pw.udf(deterministic=True)
def counting_cents(invoice: str, invoice_date: str, customer_id: str | None, lines: pw.Json) -> int | None:
    """What the invoice is worth; None: it changes no customer."""
    event = {"invoice": invoice, "invoice_date": invoice_date, "customer_id": customer_id, "lines": lines.value}
    found = purchase(event)
    return None if found is None else found.cents


@pw.udf(deterministic=True)
def moment(text: str) -> pw.DateTimeNaive:
    return pw.DateTimeNaive(text)


@pw.udf(deterministic=True)
def produced_at(metadata: pw.Json) -> pw.DateTimeUtc:
    return pw.DateTimeUtc(datetime.fromtimestamp(metadata["timestamp_millis"].as_int() / 1000, UTC))


def main(bootstrap: str, topic: str, dsn: str, _folder: str) -> None:
    events = pw.io.kafka.read(
        {"bootstrap.servers": bootstrap, "group.id": f"pathway-{topic}", "auto.offset.reset": "earliest"},
        topic,
        schema=Event,
        format="json",
        autocommit_duration_ms=_COMMIT_MILLISECONDS,
        with_metadata=True,
        max_backlog_size=_BACKLOG,
    )
    purchases = events.select(
        pw.this.customer_id,
        cents=counting_cents(pw.this.invoice, pw.this.invoice_date, pw.this.customer_id, pw.this.lines),
        invoice_date=moment(pw.this.invoice_date),
        produced_at=produced_at(pw.this._metadata),
    ).filter(pw.this.cents.is_not_none())
    customers = purchases.groupby(pw.this.customer_id).reduce(
        customer_id=pw.unwrap(pw.this.customer_id),
        frequency=pw.reducers.count(),
        cents=pw.reducers.sum(pw.unwrap(pw.this.cents)),
        last_purchase=pw.reducers.max(pw.this.invoice_date),
        newest_record=pw.reducers.max(pw.this.produced_at),
    )
    pw.io.postgres.write(
        customers,
        parse_dsn(dsn),
        "customer",
        schema_name="peer",
        output_table_type="snapshot",
        primary_key=[customers.customer_id],
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(*sys.argv[1:])
