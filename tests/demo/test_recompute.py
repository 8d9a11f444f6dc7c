"""The demo's proof: on a shop that can be worked out by hand, and that it fails when the mart is wrong."""

from __future__ import annotations

import gzip
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from demo.recompute import compare, read_lines, recompute, split_unsendable

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID\n"
DAY_1 = HEADER + (
    "1,A1,Apple,2,2026-01-01 10:00:00,1.50,c1\n"
    "1,B2,Bread,1,2026-01-01 09:59:00,2.00,c1\n"
    "2,A1,Apple,1,2026-01-01 11:00:00,1.50,\n"  # nobody's
    "3,ONGKIR,Shipping,1,2026-01-01 12:00:00,9.00,c2\n"  # a charge: no purchase of c2
    "4,A1,Apple,1,2026-01-01 13:00:00,0,c3\n"  # free
    "4,B2,Bread,3,2026-01-01 13:00:00,0.10,c3\n"
    "C5,A1,Apple,-1,2026-01-01 14:00:00,1.50,c1\n"  # a return
    "6,A1,Apple,1,2026-01-01 15:00:00,1.005,c1\n"  # finer than a cent: cannot be sent
)
DAY_2 = HEADER.replace("Price", "UnitPrice").replace("Invoice,", "InvoiceNo,").replace("Customer ID", "CustomerID") + (
    "7,B2,Bread,1,1/2/2026 8:00,2.00,c1.0\n8,A1,Café,4,1/2/2026 9:30,0.25,c4.0\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "transaksi_2026-01-01.csv").write_text(DAY_1)
    (tmp_path / "transaksi_2026-01-02.csv.gz").write_bytes(gzip.compress(DAY_2.encode("latin-1")))
    return tmp_path


def test_customers_worked_out_by_hand(folder):
    lines, unsendable = split_unsendable(read_lines(folder))
    assert unsendable == 1
    found = recompute(lines)
    assert found.index.tolist() == ["c1", "c3", "c4"]
    assert found.frequency.tolist() == [2, 1, 1]
    assert found.monetary.tolist() == [Decimal("7.00"), Decimal("0.30"), Decimal("1.00")]
    assert found.last_purchase.tolist() == [
        datetime(2026, 1, 2, 8), datetime(2026, 1, 1, 13), datetime(2026, 1, 2, 9, 30),
    ]  # fmt: skip
    # ntile(5) of three: 1, 2, 3 in the order of (value, customer)
    assert found.r.tolist() == [2, 1, 3]
    assert found.f.tolist() == [3, 1, 2]
    assert found.m.tolist() == [3, 1, 2]
    assert found.segment.tolist() == ["At Risk", "Needs Attention", "New Customers"]


def test_equal_marts_are_equal(folder):
    expected = recompute(split_unsendable(read_lines(folder))[0])
    assert compare(expected.copy(), expected).equal


@pytest.mark.parametrize("column", ["frequency", "monetary", "last_purchase", "r", "segment"])
def test_one_wrong_value_is_found(folder, column):
    expected = recompute(split_unsendable(read_lines(folder))[0])
    wrong = {
        "frequency": 3, "monetary": Decimal("7.01"), "last_purchase": datetime(2026, 1, 2, 8, 0, 1), "r": 5,
        "segment": "Champions",
    }  # fmt: skip
    mart = expected.copy()
    mart.at["c1", column] = wrong[column]
    found = compare(mart, expected)
    assert not found.equal
    assert found.different.to_dict("records") == [
        {"customer_id": "c1", "column": column, "mart": wrong[column], "expected": expected.at["c1", column]}
    ]


def test_missing_and_unexpected_customers_are_found(folder):
    expected = recompute(split_unsendable(read_lines(folder))[0])
    found = compare(expected.drop(index="c3"), expected.drop(index="c4"))
    assert (found.missing, found.unexpected, found.equal) == (["c3"], ["c4"], False)


def test_a_folder_without_files_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.csv"):
        read_lines(tmp_path)
