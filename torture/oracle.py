"""Oracle: what the mart and the lake must hold, in plain Python, from the records that were sent and acknowledged.

Written from the business rules. It imports nothing of the system and reads nothing that the system wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from torture.traffic import Event, Message

ADMIN_CODES = {"BIAYA-ADMIN", "ONGKIR", "DISCOUNT", "POST"}  # of those that the traffic uses


@dataclass(frozen=True)
class Acknowledged:
    """A record that the broker has: where, and what."""

    partition: int
    offset: int
    message: Message


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


@dataclass
class Expected:
    """All that must be there. `rejected`: (partition, offset) → reason. `landed`: (partition, offset) → invoice number
    and the sum of quantity x price over all its lines, in cents, of every record that says an invoice."""

    records: int = 0
    duplicates: int = 0
    invoices: dict[str, Invoice] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)
    landed: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)


def expected(acknowledged: Iterable[Acknowledged]) -> Expected:
    """The mart after all these records, whatever way they took. Returns policy: ignore."""
    found = Expected()
    contents: dict[str, str] = {}
    for record in sorted(acknowledged, key=lambda r: (r.partition, r.offset)):
        found.records += 1
        at, event = (record.partition, record.offset), record.message.event
        if event is None:
            found.rejected[at] = str(record.message.reason)
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
    found.customers = _customers(found.invoices)
    return found


def tiles(keys: Sequence[tuple[Any, str]]) -> dict[str, int]:
    """customer → fifth 1-5 of (metric, customer) in ascending order; of n customers the first n % 5 fifths hold one
    more, as SQL's ntile(5) does."""
    size, larger = divmod(len(keys), 5)
    ordered = [customer for _, customer in sorted(keys)]
    found: dict[str, int] = {}
    start = 0
    for tile in range(1, 6):
        end = start + size + (tile <= larger)
        found |= dict.fromkeys(ordered[start:end], tile)
        start = end
    return found


def segment(r: int, f: int) -> str:
    """The segment of a recency and a frequency score; the first rule that fits."""
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
    whole, _, fraction = price.partition(".")
    return int(whole) * 100 + int(fraction.ljust(2, "0") or 0)


def _content(event: Event) -> str:
    """The same for two records that say the same, whatever the order of their keys; short, for records may be large."""
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()


def _customers(invoices: dict[str, Invoice]) -> dict[str, Customer]:
    bought: dict[str, list[Invoice]] = {}
    for invoice in invoices.values():
        if invoice.customer_id is not None and invoice.counting_lines:
            bought.setdefault(invoice.customer_id, []).append(invoice)
    last = {c: max(i.invoice_date for i in of_customer) for c, of_customer in bought.items()}
    monetary = Counter({c: sum(i.purchased for i in of_customer) for c, of_customer in bought.items()})
    r = tiles([(last[c].date(), c) for c in bought])
    f = tiles([(len(bought[c]), c) for c in bought])
    m = tiles([(monetary[c], c) for c in bought])
    return {
        c: Customer(last[c], len(of_customer), monetary[c], r[c], f[c], m[c], segment(r[c], f[c]))
        for c, of_customer in bought.items()
    }
