"""What stands in a mart, in the oracle's form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from sql import statement
from torture.oracle import Customer


def rows(dsn: str, statement: str, parameters: tuple | None = None) -> list[tuple]:
    """The rows of a query; bytea as bytes."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor.fetchall()]


def assert_mart_equals(dsn: str, expected: dict[str, Customer]) -> None:
    """Every customer, every column, to the cent."""
    found = {row[0]: Customer(*row[1:]) for row in rows(dsn, statement("torture/customers"))}
    assert found == expected


def snapshot(dsn: str) -> dict[str, list[tuple]]:
    """All that must be the same whatever way the same records took: invoices, customers, segments."""
    return {
        "invoice": rows(
            dsn,
            "SELECT invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned,"
            " encode(content_sha256, 'hex') FROM mart.invoice ORDER BY invoice",
        ),
        "customer": rows(
            dsn,
            "SELECT customer_id, frequency, monetary, last_purchase, recency, r, f, m, customer_segment"
            " FROM mart.customer_segmentation ORDER BY customer_id",
        ),
        "segment_count": rows(dsn, "SELECT * FROM mart.segment_count ORDER BY 1"),
    }


@contextmanager
def locked(dsn: str, table: str, application: str = "psql") -> Iterator[psycopg2.extensions.connection]:
    with closing(psycopg2.connect(dsn, application_name=application)) as other, other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield other
