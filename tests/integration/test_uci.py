"""Real transactions through the whole pipeline: UCI Online Retail, replayed as a user would, against the oracle."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from streaming.main import RunOptions, stream
from tests.builders.files import UCI, needs_uci
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow, needs_uci]


def uci_events(files: list[Path]) -> list[dict]:
    """The invoices as the oracle takes them; one of several minutes bears its first one."""
    parts = [pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8") for file in files]
    lines = pd.concat(parts, ignore_index=True)
    lines = lines[lines.UnitPrice.str.partition(".")[2].str.len() <= 2]  # finer prices cannot be sent
    lines["InvoiceDate"] = pd.to_datetime(lines.InvoiceDate)
    events: dict[str, dict] = {}
    for number, date, customer, code, description, quantity, price in zip(
        *(lines[name] for name in ("InvoiceNo", "InvoiceDate", "CustomerID")),
        *(lines[name] for name in ("StockCode", "Description", "Quantity", "UnitPrice")),
        strict=True,
    ):
        event = events.setdefault(
            number,
            {"invoice": number, "invoice_date": date, "customer_id": customer.removesuffix(".0") or None, "lines": []},
        )
        event["invoice_date"] = min(event["invoice_date"], date)
        event["lines"].append(
            {"stock_code": code, "description": description, "quantity": int(quantity), "price": price}
        )
    return [{**events[number], "invoice_date": events[number]["invoice_date"].isoformat()} for number in sorted(events)]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_mart_equals_the_oracle(pipeline: Pipeline, spark, returns_policy):
    assert UCI is not None
    files = sorted(UCI.glob("*.csv.gz"))
    if returns_policy == "net":
        files = files[:60]
    replay = subprocess.run(
        [sys.executable, "-m", "cli", "replay", "--no-progress", *map(str, files)],
        env=pipeline.environment(),
        capture_output=True,
        text=True,
    )
    assert replay.returncode == 0, replay.stderr
    settings = pipeline.settings.model_copy(update={"returns_policy": returns_policy, "max_invoices_per_batch": 3000})
    assert stream(spark, settings, RunOptions(available_now=True), threading.Event())["apply"] >= len(files) // 50
    expected = expected_customers(uci_events(files), returns_policy)
    assert len(expected) > 500
    assert_mart_equals(pipeline.mart.owner_dsn, expected)
    assert rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.rejected_invoice") == [(0,)]
