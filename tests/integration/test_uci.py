"""Real transactions through the whole line: UCI Online Retail, replayed as a user would, against the pandas oracle."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from streaming.main import RunOptions, stream
from tests.conftest import UCI, Line, needs_uci
from tests.integration.mart_rows import assert_mart_equals, rows
from tests.integration.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow, needs_uci]


def uci_lines(files: list[Path]) -> pd.DataFrame:
    """The raw lines as the oracle takes them; an invoice of several minutes bears its first one."""
    parts = [pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8") for file in files]
    lines = pd.concat(parts, ignore_index=True)
    whole, _, fraction = (lines.UnitPrice.str.partition(".")[n] for n in range(3))
    cents = (whole + fraction.str.ljust(2, "0")).where(fraction.str.len() <= 2)  # finer prices cannot be sent
    date = pd.to_datetime(lines.InvoiceDate)
    return pd.DataFrame(
        {
            "invoice": lines.InvoiceNo,
            "invoice_date": date.groupby(lines.InvoiceNo).transform("min"),
            "customer_id": lines.CustomerID.str.removesuffix(".0").replace("", None),
            "stock_code": lines.StockCode,
            "description": lines.Description,
            "quantity": lines.Quantity.astype(int),
            "cents": pd.to_numeric(cents),
        }
    )[cents.notna()].astype({"cents": "int64"})


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_mart_equals_the_oracle(line: Line, spark, returns_policy):
    assert UCI is not None
    files = sorted(UCI.glob("*.csv.gz"))
    if returns_policy == "net":
        files = files[:60]
    replay = subprocess.run(
        [sys.executable, "-m", "cli", "replay", "--no-progress", *map(str, files)],
        env=line.environment(),
        capture_output=True,
        text=True,
    )
    assert replay.returncode == 0, replay.stderr
    settings = line.settings.model_copy(update={"returns_policy": returns_policy, "max_invoices_per_batch": 3000})
    assert stream(spark, settings, RunOptions(available_now=True), threading.Event())["apply"] >= len(files) // 50
    expected = expected_customers(uci_lines(files), returns_policy)
    assert len(expected) > 500
    assert_mart_equals(line.mart.owner_dsn, expected)
    assert rows(line.mart.owner_dsn, "SELECT count(*) FROM mart.rejected_invoice") == [(0,)]
