"""Invoice: the content of one valid record, as conf/invoice_event.schema.json defines it, and its digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

MAX_ID_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_QUANTITY = 2**31 - 1
# In hundredths: 10^15 of the currency, in rupiah some sixty billion dollars. Ten billion invoices of it fit into the
# mart's numeric(38,2) and the lake's decimals, and one into 64 bits.
MAX_AMOUNT_CENTS = 10**17
FIRST_YEAR, LAST_YEAR = 1900, 2099

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
_encode = json.JSONEncoder(separators=(",", ":")).encode
_TIME = re.compile(
    r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(?:\.[0-9]{1,6}0*)?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?",
    re.ASCII,
)


class Line(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One invoice line. `price` is the unit price as a decimal string, at most 2 decimals."""

    stock_code: Id
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARACTERS)]
    quantity: Annotated[int, Meta(ge=-MAX_QUANTITY - 1, le=MAX_QUANTITY)]
    price: str


class Invoice(Struct, frozen=True, gc=False):
    """One valid invoice. `invoice_date` is shop-local without a zone, to the microsecond; `content_sha256` is
    hexadecimal."""

    invoice: str
    invoice_date: datetime
    customer_id: str | None
    lines: list[Line]
    content_sha256: str


def shop_time(text: str, zone: ZoneInfo) -> datetime | None:
    """A time as the contract writes it, in the shop's local time, naive and to the microsecond; None if it is not one.

    Without an offset it is the shop's own time and is kept as written, even if the clocks skip or repeat that hour.
    With an offset it is converted to the shop's time: both hours of the night when the clocks go back read the same.
    """
    written = _TIME.fullmatch(text)
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(text)  # a date that no calendar has
    except ValueError:
        return None
    if written[1] is not None:
        moment = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    return moment if FIRST_YEAR <= moment.year <= LAST_YEAR else None


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
