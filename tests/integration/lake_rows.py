"""What stands in a lake, read without Spark, in the oracle's form."""

from __future__ import annotations

import duckdb
import pandas as pd
from deltalake import DeltaTable


def query(path: str, statement: str) -> list[tuple]:
    """The rows of a DuckDB query over the table `invoices`, the lake's newest version."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("invoices", DeltaTable(path).to_pyarrow_dataset())
        return connection.sql(statement).fetchall()


def counts(path: str) -> tuple[int, int]:
    """(rows, distinct invoices) in the lake."""
    [found] = query(path, "SELECT count(*), count(DISTINCT invoice) FROM invoices")
    return found


def lines(path: str) -> pd.DataFrame:
    """The lines of each invoice's earliest copy, columns and units of oracle.expected_customers."""
    found = query(
        path,
        """
        WITH copy AS (
            SELECT * FROM invoices
            QUALIFY row_number() OVER (PARTITION BY invoice ORDER BY kafka_timestamp, "partition", "offset") = 1
        )
        SELECT invoice, invoice_date, customer_id, line.stock_code, line.description, line.quantity,
               (line.price * 100)::BIGINT
        FROM (SELECT *, unnest(lines) AS line FROM copy)
        """,
    )
    columns = ["invoice", "invoice_date", "customer_id", "stock_code", "description", "quantity", "cents"]
    return pd.DataFrame(found, columns=columns).astype({"invoice_date": "datetime64[ns]", "customer_id": "object"})
