"""What an event says of its customer, in plain Python: the peers that have no expressions of their own use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from conf.line_rules import admin_codes

_ADMIN_CODES = frozenset(admin_codes())


class Purchase(NamedTuple):
    """An invoice that counts: the cents of its counting lines; its date as ISO text, in the shop's time."""

    invoice: str
    invoice_date: str
    customer_id: str
    cents: int


class Totals(NamedTuple):
    """What a peer knows of a customer, and Kafka's timestamp, in milliseconds, of the newest record in it."""

    frequency: int = 0
    cents: int = 0
    last_purchase: str = ""
    newest_record: int = 0

    def plus(self, bought: Purchase, timestamp: int) -> Self:
        """After one purchase more."""
        return self._replace(
            frequency=self.frequency + 1,
            cents=self.cents + bought.cents,
            last_purchase=max(self.last_purchase, bought.invoice_date),
            newest_record=max(self.newest_record, timestamp),
        )

    def row(self, customer_id: str) -> tuple[str, int, int, datetime, datetime]:
        """Of `peer.customer`."""
        newest = datetime.fromtimestamp(self.newest_record / 1000, UTC)
        return customer_id, self.frequency, self.cents, datetime.fromisoformat(self.last_purchase), newest


def read_purchase(value: bytes) -> Purchase | None:
    """The purchase that a message is, None if it has no customer or no line that counts."""
    return purchase(json.loads(value))


def purchase(event: dict[str, Any]) -> Purchase | None:
    """The same of a message that is decoded already."""
    if event["customer_id"] is None or event["invoice"].startswith("C"):
        return None
    counting = [line["quantity"] * cents(line["price"]) for line in event["lines"] if counts(line)]
    if not counting:
        return None
    return Purchase(event["invoice"], event["invoice_date"], event["customer_id"], sum(counting))


def counts(line: Mapping[str, Any]) -> bool:
    """Whether a line of an invoice counts, in plain Python."""
    code = line["stock_code"]
    return (
        line["quantity"] > 0
        and cents(line["price"]) > 0
        and line["description"].strip(" ") != ""
        and any("0" <= character <= "9" for character in code)
        and code.strip(" ").upper() not in _ADMIN_CODES
    )


def cents(price: str) -> int:
    """A decimal string of at most two decimals, in hundredths."""
    whole, _, fraction = price.partition(".")
    found = int(whole.lstrip("-")) * 100 + int(fraction.ljust(2, "0"))
    return -found if price.startswith("-") else found
