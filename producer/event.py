"""The message of one invoice, as conf/invoice_event.schema.json has it."""

from __future__ import annotations

import json

from producer.csv_invoices import Invoice

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def event(invoice: Invoice) -> bytes:
    """The message's value: UTF-8 JSON, times in the shop's local time, prices as decimal strings."""
    return _encoder.encode(
        {
            "version": 1,
            "invoice": invoice.number,
            "invoice_date": invoice.date.isoformat(timespec="seconds"),
            "customer_id": invoice.customer_id,
            "lines": [
                {"stock_code": code, "description": text, "quantity": quantity, "price": price}
                for code, text, quantity, price in invoice.lines
            ],
        }
    ).encode()


def record_key(invoice: Invoice) -> bytes:
    """The message's key: the customer, so that one customer's invoices stay in order, else the invoice."""
    return (invoice.customer_id or invoice.number).encode()
