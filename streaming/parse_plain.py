"""Parse plain: the records that a producer writes all day, read several times faster than by the strict parser.

A plain record is valid JSON with exactly the contract's fields, each once, without escapes and with integer quantities,
so a few checks tell it from all others. Everything else is left to streaming.parse, which alone says what is wrong with
a record.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from streaming.invoice import MAX_AMOUNT_CENTS, Id, Invoice, Line, cents, content_sha256, shop_time

PRICE = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,2})?", re.ASCII)
_CENTURIES = ("19", "20")
# Quotes around the keys and the texts of an invoice without lines or customer, and around those of one line.
_QUOTES, _QUOTES_OF_CUSTOMER, _QUOTES_OF_LINE = 2 * 5 + 2 * 2, 2, 2 * 4 + 2 * 3


class _Event(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    version: Literal[1]
    invoice: Id
    invoice_date: str
    customer_id: Id | None
    lines: Annotated[list[Line], Meta(min_length=1)]


_decode = Decoder(_Event).decode


def parse_plain(value: bytes, zone: ZoneInfo) -> Invoice | None:
    """The invoice of a plain record, the same that streaming.parse.parse_invoice returns; None for all others.

    `zone` is the shop's. The invoice's date is not compared with the record's.
    """
    if b"\\" in value:
        return None
    try:
        event = _decode(value)
        date = datetime.fromisoformat(event.invoice_date)
    except (MsgspecError, ValueError):
        return None
    lines = event.lines
    quotes = _QUOTES + _QUOTES_OF_LINE * len(lines)
    if event.customer_id is not None:
        quotes += _QUOTES_OF_CUSTOMER
    # Each field is there, so another quote means that a field is there twice.
    if value.count(b'"') != quotes:
        return None
    iso = date.isoformat()
    if iso != event.invoice_date or date.tzinfo is not None or iso[:2] not in _CENTURIES:
        local = shop_time(event.invoice_date, zone)  # a fraction, an offset
        if local is None:
            return None
        date, iso = local, local.isoformat()
    sold = []
    total = 0
    for line in lines:
        price = _cents(line.price)
        if price is None:
            return None
        total += abs(line.quantity * price)
        sold.append((line.stock_code, line.description, line.quantity, price))
    if total > MAX_AMOUNT_CENTS:
        return None
    if value.isascii() and b"\x7f" not in value:  # then it is its own JSON
        sold.sort()
        customer = "null" if event.customer_id is None else f'"{event.customer_id}"'
        content = ",".join([f'["{code}","{text}",{quantity},{price}]' for code, text, quantity, price in sold])
        digest = sha256(f'[["{event.invoice}","{iso}",{customer}],[{content}]]'.encode("ascii")).hexdigest()
    else:
        digest = content_sha256(event.invoice, date, event.customer_id, lines)
    return Invoice(event.invoice, date, event.customer_id, lines, digest)


@lru_cache(maxsize=65_536)
def _cents(price: str) -> int | None:
    """A price in hundredths; None if it is not a price. A shop has few prices and repeats them often."""
    return cents(price) if PRICE.fullmatch(price) else None
