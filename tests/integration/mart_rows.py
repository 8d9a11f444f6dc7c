"""What stands in a mart, in the oracle's form."""

from __future__ import annotations

from contextlib import closing

import pandas as pd
import psycopg2

from tests.integration.oracle import CUSTOMER_COLUMNS


def rows(dsn: str, statement: str, parameters: tuple | None = None) -> list[tuple]:
    """The rows of a query; bytea as bytes."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor.fetchall()]


def customers(dsn: str) -> pd.DataFrame:
    """One row a customer, columns and units of oracle.expected_customers."""
    found = rows(
        dsn,
        "SELECT customer_id, frequency, (monetary * 100)::bigint, last_purchase, r, f, m, customer_segment"
        ' FROM mart.customer_segmentation ORDER BY customer_id COLLATE "C"',
    )
    return pd.DataFrame(found, columns=CUSTOMER_COLUMNS).astype(
        {"last_purchase": "datetime64[ns]", "frequency": "int64", "monetary": "int64", "r": "int64", "f": "int64"}
        | {"m": "int64"}
    )


def assert_mart_equals(dsn: str, expected: pd.DataFrame) -> None:
    """Every customer, every column, to the cent."""
    pd.testing.assert_frame_equal(customers(dsn), expected.reset_index(drop=True), check_dtype=False)


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
