"""Oracle: what the mart and the lake must contain, in plain Python, from the records that were sent and acknowledged.

Written from the default business rules. It imports nothing of the system and reads nothing that the system wrote. The
torture and all tests compare the mart with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from torture.traffic import Event, Message

ADMIN_CODES = {
    "BIAYA-ADMIN", "ONGKIR", "DISCOUNT", "POST", "DOT", "C2", "M", "D", "S", "B", "PADS", "BANK CHARGES", "AMAZONFEE",
    "CRUK", "ADJUST", "ADJUST2", "TEST001", "TEST002", "GIFT_0001_10", "GIFT_0001_20", "GIFT_0001_30",
    "GIFT_0001_40", "GIFT_0001_50",
}  # fmt: skip
SHOP = ZoneInfo("Asia/Jakarta")
MOST = 10**17  # that an invoice's lines may come to, signs aside, in cents
_PRICE = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,2})?", re.ASCII)
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)


@dataclass(frozen=True)
class Acknowledged:
    """A record that the broker has: its coordinates, its value, and its timestamp in milliseconds."""

    partition: int
    offset: int
    message: Message
    timestamp_ms: int = 0


@dataclass(frozen=True)
class Invoice:
    """Its customer, date, lines, lines that count, and what they are worth in cents."""

    customer_id: str | None
    invoice_date: datetime
    line_count: int
    counting_lines: int
    purchased: int
    returned: int


@dataclass(frozen=True)
class Customer:
    """A customer as the mart must show them; money in cents."""

    last_purchase: datetime
    frequency: int
    monetary: int
    r: int
    f: int
    m: int
    segment: str


_YEAR_2100_MS = 4_102_444_800_000


@dataclass
class Expected:
    """Everything that must be there. `rejected`: (partition, offset) → reason, None if it may be any but
    internal_error. `landed`: (partition, offset) → invoice number and the sum of quantity x price over all its lines,
    in cents, for every record that is an invoice."""

    records: int = 0
    duplicates: int = 0
    invoices: dict[str, Invoice] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    rejected: dict[tuple[int, int], str | None] = field(default_factory=dict)
    landed: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)


def expected(acknowledged: Iterable[Acknowledged]) -> Expected:
    """The mart after all these records, however they got there. Returns policy: ignore."""
    found = Expected()
    contents: dict[str, str] = {}
    for record in sorted(acknowledged, key=lambda r: (r.partition, r.offset)):
        found.records += 1
        at, event = (record.partition, record.offset), record.message.event
        if not 0 <= record.timestamp_ms < _YEAR_2100_MS:
            found.rejected[at] = "bad_timestamp"
            continue
        if event is None and record.message.reason is None:
            event = read(record.message.value, datetime.fromtimestamp(record.timestamp_ms / 1000, UTC))
        if event is None:
            found.rejected[at] = record.message.reason
            continue
        number, content = event["invoice"], _content(event)
        found.landed[at] = (number, sum(line["quantity"] * _cents(line["price"]) for line in event["lines"]))
        if number not in contents:
            contents[number] = content
            found.invoices[number] = _invoice(event)
        elif contents[number] == content:
            found.duplicates += 1
        else:
            found.rejected[at] = "conflicting_duplicate"
    found.customers = _customers(found.invoices.values())
    return found


def expected_customers(events: Iterable[Event], returns_policy: str = "ignore") -> dict[str, Customer]:
    """The customers after these invoices; if several have one number, the first counts."""
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event["invoice"], event)
    return _customers([_invoice(event) for event in first.values()], returns_policy)


def read(value: bytes | None, produced_at: datetime) -> Event | None:
    """The invoice that a record contains, its date in the shop's time; None if the contract refuses it."""
    if value is None or len(value) > 1_000_000:
        return None
    try:
        event = json.loads(value.decode(), object_pairs_hook=_each_key_once, parse_constant=_no_constant)
        _hold(isinstance(event, dict) and type(event["version"]) in (int, float) and event["version"] == 1)
        customer, lines = event["customer_id"], event["lines"]
        _hold(isinstance(lines, list) and len(lines) > 0)
        read: Event = {
            "invoice": _text(event["invoice"], 1, 64),
            "invoice_date": _local_time(event["invoice_date"], produced_at).isoformat(),
            "customer_id": None if customer is None else _text(customer, 1, 64),
            "lines": [_line(line) for line in lines],
        }
        _hold(sum(abs(line["quantity"] * _cents(line["price"])) for line in read["lines"]) <= MOST)
    except (ValueError, KeyError, RecursionError):
        return None
    return read


def _hold(condition: bool) -> None:
    if not condition:
        raise ValueError


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _hold(len({key for key, _ in pairs}) == len(pairs))
    return dict(pairs)


def _no_constant(_: str) -> None:
    raise ValueError


def _text(value: Any, shortest: int, longest: int) -> str:
    _hold(isinstance(value, str) and shortest <= len(value) <= longest and "\x00" not in value)
    value.encode()  # half a surrogate pair is a ValueError
    return str(value)


def _line(line: Any) -> Event:
    _hold(isinstance(line, dict))
    quantity, price = line["quantity"], line["price"]
    _hold(type(quantity) is int or (type(quantity) is float and quantity.is_integer()))
    _hold(-(2**31) <= quantity < 2**31)
    _hold(isinstance(price, str) and _PRICE.fullmatch(price) is not None)
    return {
        "stock_code": _text(line["stock_code"], 1, 64),
        "description": _text(line["description"], 0, 1000),
        "quantity": int(quantity),
        "price": price,
    }


def _local_time(value: Any, produced_at: datetime) -> datetime:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    *digits, fraction, offset = match.groups()
    fraction = (fraction or "").ljust(6, "0")
    _hold(1900 <= int(digits[0]) <= 2099 and not fraction[6:].strip("0"))
    local = datetime(*map(int, digits), int(fraction[:6]))  # type: ignore[arg-type, call-arg]
    if offset is not None:
        hours, minutes = (0, 0) if offset == "Z" else (int(offset[1:3]), int(offset[4:6]))
        _hold(hours <= 23 and minutes <= 59)
        east = timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
        local = (local - east).replace(tzinfo=UTC).astimezone(SHOP).replace(tzinfo=None)
        _hold(1900 <= local.year <= 2099)
    _hold(local <= produced_at.astimezone(SHOP).replace(tzinfo=None) + timedelta(days=1))
    return local


def quintiles(keys: Sequence[tuple[Any, str]]) -> dict[str, int]:
    """customer → quintile 1-5 of (metric, customer) in ascending order; with n customers the first n % 5 quintiles have
    one more, as in SQL's ntile(5)."""
    size, larger = divmod(len(keys), 5)
    ordered = [customer for _, customer in sorted(keys)]
    found: dict[str, int] = {}
    start = 0
    for quintile in range(1, 6):
        end = start + size + (quintile <= larger)
        found |= dict.fromkeys(ordered[start:end], quintile)
        start = end
    return found


def segment(r: int, f: int) -> str:
    """The segment for a recency and a frequency score; the first rule that matches."""
    rules = [
        (r >= 4 and f >= 4, "Champions"),
        (r >= 4 and f >= 2, "Potential Loyalists"),
        (r >= 3 and f >= 3, "Loyal Customers"),
        (r <= 2 and f >= 3, "At Risk"),
        (r >= 3 and f <= 2, "New Customers"),
    ]
    return next((name for fits, name in rules if fits), "Needs Attention")


def _invoice(event: Event) -> Invoice:
    counting = [line for line in event["lines"] if _is_product(line) and line["quantity"] > 0]
    if event["invoice"].startswith("C"):
        counting = []
    returned = [line for line in event["lines"] if _is_product(line) and line["quantity"] < 0]
    return Invoice(
        event["customer_id"],
        datetime.fromisoformat(event["invoice_date"]),
        len(event["lines"]),
        len(counting),
        sum(line["quantity"] * _cents(line["price"]) for line in counting),
        sum(line["quantity"] * _cents(line["price"]) for line in returned),
    )


def _is_product(line: Event) -> bool:
    code = line["stock_code"].strip(" ").upper()
    return bool(
        _cents(line["price"]) > 0
        and line["description"].strip(" ")
        and any(c in "0123456789" for c in line["stock_code"])
        and code not in ADMIN_CODES
    )


def _cents(price: str) -> int:
    return int(Decimal(price) * 100)


def _content(event: Event) -> str:
    """The same for two records with the same content, whatever the order of their keys and lines and however a price is
    written; short, because records may be large."""
    lines = sorted([ln["stock_code"], ln["description"], ln["quantity"], _cents(ln["price"])] for ln in event["lines"])
    content = json.dumps([event["invoice_date"], event["customer_id"], lines])
    return hashlib.sha256(content.encode()).hexdigest()


def _customers(invoices: Iterable[Invoice], returns_policy: str = "ignore") -> dict[str, Customer]:
    bought: dict[str, list[Invoice]] = {}
    returned: Counter[str] = Counter()
    for invoice in invoices:
        if invoice.customer_id is not None:
            returned[invoice.customer_id] += invoice.returned
            if invoice.counting_lines:
                bought.setdefault(invoice.customer_id, []).append(invoice)
    last = {c: max(i.invoice_date for i in of_customer) for c, of_customer in bought.items()}
    monetary = {c: sum(i.purchased for i in of_customer) for c, of_customer in bought.items()}
    if returns_policy == "net":
        monetary = {c: spent + returned[c] for c, spent in monetary.items()}
    r = quintiles([(last[c].date(), c) for c in bought])
    f = quintiles([(len(bought[c]), c) for c in bought])
    m = quintiles([(monetary[c], c) for c in bought])
    return {
        c: Customer(last[c], len(of_customer), monetary[c], r[c], f[c], m[c], segment(r[c], f[c]))
        for c, of_customer in bought.items()
    }
