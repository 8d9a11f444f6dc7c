"""Sold: what a window's invoices contain, read from the lake by delta-rs and computed by DuckDB, without Spark.

The same as batch_rules.baskets, for a lake whose baskets fit into this process, on any storage that delta-rs reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from batch_rules.landed import reading
from conf.line_rules import admin_codes
from conf.scratch import scratch
from sql import statement


class Sold:
    """A window's counting lines, in the engine's own tables, which spill to disk if they are large."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, invoices: int) -> None:
        self._engine = engine
        self.invoices = invoices
        """Distinct invoices with a line that counts."""

    def names(self) -> dict[str, str]:
        """The canonical name of each stock code."""
        return dict(self._engine.execute(statement("duckdb/canonical_names")).fetchall())

    def occurrences(self) -> int:
        """Items of all baskets in total."""
        return int(self._one("SELECT coalesce(sum(len(items)), 0) FROM basket"))

    def baskets(self) -> pa.ChunkedArray:
        """The distinct stock codes, in order, of each invoice that has at least 2."""
        return self._engine.execute("SELECT items FROM basket").to_arrow_table()["items"]

    def _one(self, query: str) -> int:
        [(value,)] = self._engine.execute(query).fetchall()
        return int(value)


def conflicting_in(table: DeltaTable, after: date, until: date, spill_to: Path) -> int:
    """Invoices of the window of which the lake holds copies with other content. Here the one that Kafka took first
    counts; the mart counts the one that it applied first, which the lake cannot know.

    Raises RulesError, UnavailableError if the lake cannot be read.
    """
    with _engine(table, spill_to) as engine, reading(table.table_uri):
        [(invoices,)] = engine.execute(
            statement("duckdb/conflicting_invoices"), {"after": after, "until": until}
        ).fetchall()
    return int(invoices)


@contextmanager
def sold_in(table: DeltaTable, after: date, until: date, spill_to: Path) -> Iterator[Sold]:
    """What was sold on the business dates in (after, until], of the version of the lake that `table` is at.

    Raises RulesError, UnavailableError if the lake cannot be read.
    """
    with _engine(table, spill_to) as engine:
        with reading(table.table_uri):
            engine.execute(
                statement("duckdb/sold_lines"),
                {"after": after, "until": until, "admin_codes": list(admin_codes())},
            )
        engine.execute(statement("duckdb/baskets"))
        [(invoices,)] = engine.execute("SELECT count(DISTINCT invoice) FROM sold_line").fetchall()
        yield Sold(engine, int(invoices))


@contextmanager
def _engine(table: DeltaTable, spill_to: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the version of the lake that `table` is at as `lake`, and a folder to spill into."""
    with scratch(spill_to, "rules") as folder, duckdb.connect() as engine:
        engine.execute("SET temp_directory = $folder", {"folder": str(folder)})
        engine.register("lake", table.to_pyarrow_dataset())
        yield engine
