"""The comparison that decides whether a way's time counts, and the peers' reading of an event."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.oracle import wrong
from bench.peers.invoice import purchase
from demo.recompute import recompute

COLUMNS = ["invoice", "stock_code", "description", "quantity", "invoice_date", "price", "customer_id"]
LINES = pd.DataFrame(
    [
        ("1", "A1", "tea", "2", "2026-01-01 10:00:00", "1.10", "12"),
        ("2", "A1", "tea", "1", "2026-01-02 10:00:00", "9.99", "13"),
    ],
    columns=COLUMNS,
)


def test_the_same_customers_are_right():
    assert wrong(recompute(LINES), recompute(LINES)) is None


def test_a_cent_is_too_much():
    found = recompute(LINES.assign(price=["1.10", "9.98"]))
    assert str(wrong(found, recompute(LINES))).startswith("0 customers missing, 0 too many, 1 values differ")


def test_a_customer_is_missing():
    assert str(wrong(recompute(LINES[:1]), recompute(LINES))).startswith("1 customers missing, 0 too many")


TEA = {"stock_code": "A1", "description": "tea", "quantity": 2, "price": "1.10"}


@pytest.mark.parametrize(
    ("change", "cents"),
    [
        ({}, 220),
        ({"price": "3"}, 600),
        ({"price": "3.5"}, 700),
        ({"quantity": -2}, None),
        ({"price": "0.00"}, None),
        ({"price": "-1.00"}, None),
        ({"description": "  "}, None),
        ({"stock_code": "TEA"}, None),
        ({"stock_code": " c2 "}, None),  # carriage
    ],
)
def test_peers_count_the_lines_that_recompute_counts(change, cents):
    event = {"invoice": "1", "invoice_date": "2026-01-01T10:00:00", "customer_id": "12", "lines": [TEA | change]}
    found = purchase(event)
    assert (found and found.cents) == cents
    line = TEA | change
    row = ("1", line["stock_code"], line["description"], str(line["quantity"]), "2026-01-01", line["price"], "12")
    recomputed = recompute(pd.DataFrame([row], columns=COLUMNS))
    assert [int(monetary * 100) for monetary in recomputed["monetary"]] == ([] if cents is None else [cents])


@pytest.mark.parametrize("change", [{"customer_id": None}, {"invoice": "C1"}, {"lines": []}])
def test_some_invoices_are_nobodys_purchase(change):
    event = {"invoice": "1", "invoice_date": "2026-01-01T10:00:00", "customer_id": "12", "lines": [TEA]}
    assert purchase(event | change) is None
