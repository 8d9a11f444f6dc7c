"""What stands in a lake, read without Spark, in the oracle's form."""

from __future__ import annotations

import duckdb
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


def events(path: str) -> list[dict]:
    """The earliest copy of each invoice, as the oracle takes it."""
    found = query(
        path,
        """
        SELECT invoice, strftime(invoice_date, '%Y-%m-%dT%H:%M:%S.%f'), customer_id, lines FROM invoices
        QUALIFY row_number() OVER (PARTITION BY invoice ORDER BY kafka_timestamp, "partition", "offset") = 1
        """,
    )
    return [dict(zip(("invoice", "invoice_date", "customer_id", "lines"), row, strict=True)) for row in found]
