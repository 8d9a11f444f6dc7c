"""Every message obeys the contract, conf/invoice_event.schema.json."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conf
from producer.csv_invoices import Invoice, Line, csv_files, parse_invoices, read_invoices
from producer.event import event, record_key
from producer.generate import Options, generate
from tests.builders.files import UCI, needs_uci

SCHEMA = json.loads((Path(conf.__file__).parent / "invoice_event.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def valid(invoice: Invoice) -> dict[str, Any]:
    message = json.loads(event(invoice))
    VALIDATOR.validate(message)
    return message


def test_the_message_of_an_invoice() -> None:
    invoice = Invoice("536365", datetime(2010, 12, 1, 8, 26), "17850", [Line("85123A", "HEART £ ", 6, "2.55")], 2)
    assert (
        event(invoice)
        == (
            '{"version":1,"invoice":"536365","invoice_date":"2010-12-01T08:26:00","customer_id":"17850",'
            '"lines":[{"stock_code":"85123A","description":"HEART £ ","quantity":6,"price":"2.55"}]}'
        ).encode()
    )
    valid(invoice)


@pytest.mark.parametrize(("customer", "key"), [("17850", b"17850"), (None, b"A-1\xc3\xa9")])
def test_the_key_is_the_customer_or_else_the_invoice(customer: str | None, key: bytes) -> None:
    assert record_key(Invoice("A-1é", datetime(2010, 12, 1), customer, [], 2)) == key


@pytest.mark.parametrize("name", ["shop.csv", "uci_online_retail.csv", "online_retail_ii.csv"])
def test_golden_files(name: str) -> None:
    for invoice in read_invoices(Path(__file__).parent / "golden" / name)[0]:
        valid(invoice)


def test_a_generated_shop(tmp_path: Path) -> None:
    generate(Options(tmp_path, days=2, products=100, returns_share=0.1))
    for file in csv_files([tmp_path]):
        for invoice in read_invoices(file)[0]:
            valid(invoice)


field = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=',"\n\r'), max_size=70)
number = st.one_of(st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{0,3})?", fullmatch=True), field)
date = st.one_of(st.datetimes().map(lambda d: d.isoformat(" ", "seconds")), st.just("2/29/2024 8:26"), field)


@given(st.lists(st.tuples(field, field, field, number, date, number, field)))
def test_whatever_is_not_rejected_is_valid(rows: list[tuple[str, ...]]) -> None:
    header = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID"
    for invoice in parse_invoices("\n".join([header, *(",".join(r) for r in rows)]), "f.csv")[0]:
        valid(invoice)


@needs_uci
def test_uci_online_retail() -> None:
    lines = 0
    files = csv_files([UCI])
    for i, file in enumerate(files):
        invoices, rejects = read_invoices(file)
        lines += sum(len(v.lines) for v in invoices)
        assert {r.reason for r in rejects} <= {"price 0.001 has more than 2 decimals"}
        if i < 3:
            for invoice in invoices:
                valid(invoice)
    if len(files) == 305:
        assert lines == 541_909 - 4
