"""Invoice: what one valid record says, as conf/invoice_event.schema.json has it, and the digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

MAX_ID_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_QUANTITY = 2**31 - 1

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Line(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One invoice line. `price` is the unit price as a decimal string, at most 2 decimals."""

    stock_code: Id
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARACTERS)]
    quantity: Annotated[int, Meta(ge=-MAX_QUANTITY - 1, le=MAX_QUANTITY)]
    price: str


class Invoice(Struct, frozen=True, gc=False):
    """One valid invoice. `invoice_date` is shop-local without a zone; `content_sha256` is hexadecimal."""

    invoice: str
    invoice_date: datetime
    customer_id: str | None
    lines: list[Line]
    content_sha256: str


def cents(price: str) -> int:
    """A valid price in hundredths of the currency's unit."""
    whole, _, fraction = price.partition(".")
    value = int(whole.lstrip("-")) * 100 + int(fraction.ljust(2, "0"))
    return -value if price.startswith("-") else value


def content_sha256(invoice: str, date: datetime, customer: str | None, lines: Sequence[Line]) -> str:
    """SHA-256 of the content, the same for any order of keys and lines and any way of writing a price."""
    content = [invoice, date.isoformat(), customer]
    sold = sorted([line.stock_code, line.description, line.quantity, cents(line.price)] for line in lines)
    return hashlib.sha256(_encode([content, sold]).encode("ascii")).hexdigest()
