"""Recompute every customer from the CSV files in one batch, with DuckDB, and compare the mart with it to the cent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from conf.line_rules import admin_codes
from conf.segments import segment_scores
from sql import statement

_NAMES = {
    "invoice": "invoice",
    "invoiceno": "invoice",
    "stockcode": "stock_code",
    "description": "description",
    "quantity": "quantity",
    "invoicedate": "invoice_date",
    "price": "price",
    "unitprice": "price",
    "customerid": "customer_id",
}
_COLUMNS = ["invoice", "stock_code", "description", "quantity", "invoice_date", "price", "customer_id"]


def read_lines(folder: Path) -> pd.DataFrame:
    """All lines of the folder's CSV and CSV.gz files, as text; invoice_date as a timestamp's ISO text."""
    frames = []
    for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith((".csv", ".csv.gz"))):
        frame = _read(path).rename(columns=lambda name: _NAMES.get(name.strip().lower().replace(" ", ""), name))
        frames.append(frame[_COLUMNS])
    if not frames:
        raise FileNotFoundError(f"no *.csv or *.csv.gz in {folder}")
    lines = pd.concat(frames, ignore_index=True)
    slashed = lines.invoice_date.str.contains("/", regex=False)
    if slashed.any():
        dates = pd.to_datetime(lines.invoice_date[slashed], format="mixed", errors="coerce")
        lines.loc[slashed, "invoice_date"] = dates.dt.strftime("%Y-%m-%d %H:%M:%S")
    return lines


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="latin-1")


def split_unsendable(lines: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The lines that the event's contract can carry, and how many it cannot."""
    sendable = (
        lines.price.str.fullmatch(r"-?\d{1,16}(\.\d{1,2})?")
        & lines.quantity.str.fullmatch(r"[+-]?\d{1,10}")
        & (lines.invoice != "")
        & (lines.stock_code != "")
        & pd.to_datetime(lines.invoice_date, errors="coerce").notna()
    )
    return lines[sendable], int((~sendable).sum())


def recompute(lines: pd.DataFrame) -> pd.DataFrame:
    """One row a customer: customer_id, frequency, monetary (Decimal), last_purchase, r, f, m, segment."""
    with duckdb.connect() as engine:
        engine.register("csv_line", lines)
        engine.register("segment_score", pd.DataFrame(list(segment_scores()), columns=["r", "f", "m", "segment"]))
        rows = engine.execute(statement("duckdb/recompute"), {"admin_codes": list(admin_codes())}).fetchall()
        columns = [column[0] for column in engine.description or ()]
    return pd.DataFrame(rows, columns=columns).set_index("customer_id").sort_index()


@dataclass(frozen=True)
class Comparison:
    """How two tables of customers differ: in whom they know, and in which columns."""

    customers: int
    missing: Collection[str]
    unexpected: Collection[str]
    different: pd.DataFrame

    @property
    def equal(self) -> bool:
        return not (self.missing or self.unexpected or len(self.different))


def compare(mart: pd.DataFrame, expected: pd.DataFrame) -> Comparison:
    """Compare two tables indexed by customer_id, value by value; `different` has one row a differing value:
    customer_id, column, mart, expected."""
    both = mart.index.intersection(expected.index)
    rows = [
        (customer, column, mart.at[customer, column], expected.at[customer, column])
        for column in expected.columns
        for customer in both[(mart.loc[both, column] != expected.loc[both, column]).to_numpy()]
    ]
    return Comparison(
        len(expected),
        sorted(expected.index.difference(mart.index)),
        sorted(mart.index.difference(expected.index)),
        pd.DataFrame(rows, columns=["customer_id", "column", "mart", "expected"]),
    )
