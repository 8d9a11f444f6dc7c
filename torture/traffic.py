"""Traffic: seeded invoices, their duplicates, wrong and mutated records. Knows nothing of the system."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torture.mutation import mutated, mutated_bytes

Event = dict[str, Any]
CODES = ("IND-001", "IND-002", "HHLD-001", "BEV-001", "RICE-001", "85123A", "ONGKIR", "DISCOUNT", "POST", "nocode")
PRICES = ("0", "0.05", "1.5", "2.50", "3100", "1234.56")
_REMEMBERED = 10_000  # of which some are sent again
# A record's own timestamps of producers that count otherwise: in seconds, micro- and nanoseconds, from clocks that are
# wrong. Spark's source cannot read nanoseconds, so one such record changes the way of a whole batch.
_WRONG_CLOCKS = (0, 1_764_000_000, 4_102_444_799_999, 4_102_444_800_000, 1_764_000_000_000_000, 9_223_372_036_854_775)
_NANOSECONDS = (9_223_372_036_854_776, 1_764_000_000_000_000_000, 2**63 - 1)


@dataclass(frozen=True)
class Message:
    """One record to send. `event` is the invoice in it; None for a wrong record, with its `reason`, and for one that
    nobody has classified, which the oracle reads. `timestamp_ms` is the record's own; None: the time of sending."""

    key: bytes
    value: bytes | None
    event: Event | None
    reason: str | None = None
    timestamp_ms: int | None = None


class Traffic:
    """An endless shop from one seed: each invoice has its own number, customers repeat."""

    def __init__(self, seed: int, customers: int = 400, first_number: int = 500_000) -> None:
        self.rng = random.Random(seed)
        self.customers = customers
        self._next_number = first_number
        self._sent: list[Event] = []

    def invoices(self, count: int) -> list[Message]:
        """New invoices, each sent once."""
        return [message(self._remember(self.event())) for _ in range(count)]

    def messy(self, count: int) -> list[Message]:
        """About `count` records: invoices of any date in any order, a fifth of them sent again (some with the JSON keys
        in another order), some with other content under a used number, and a few wrong ones."""
        messages = self.invoices(count)
        again = [self.rng.choice(self._sent) for _ in range(count // 5)]
        messages += [message(event, shuffle=self.rng) for event in again]
        messages += [message(self._altered(event)) for event in self.rng.sample(self._sent, max(1, count // 50))]
        classes = list(WRONG)
        messages += [self.wrong(self.rng.choice(classes)) for _ in range(max(1, count // 30))]
        self.rng.shuffle(messages)
        return messages

    def mutated(self, count: int) -> Iterator[Message]:
        """Valid invoices, each changed in some places, by field or by byte (torture.mutation); a tenth sent again, as
        it was or changed once more; one in five hundred has a strange timestamp. A number belongs to only one key, so
        that one of its copies is the first."""
        sent: list[tuple[bytes, bytes | None]] = []
        for _ in range(count):
            if sent and self.rng.random() < 0.1:
                number, value = self.rng.choice(sent)
                if value is not None and self.rng.random() < 0.5:
                    value = mutated_bytes(self.rng, value)
            else:
                number = b"%015x" % self.rng.getrandbits(60)
                value = mutated(self.rng, self.event() | {"invoice": number.decode()})
                sent.append((number, value))
                if len(sent) > _REMEMBERED:
                    sent[self.rng.randrange(_REMEMBERED)] = sent.pop()
            # What has lost its number may have got another's.
            key = number if value and number in value else b"without its number"
            yield Message(key, value, None, timestamp_ms=self._timestamp())

    def _timestamp(self) -> int | None:
        chance = self.rng.random()
        if chance < 0.000_05:
            return self.rng.choice(_NANOSECONDS)
        return self.rng.choice(_WRONG_CLOCKS) if chance < 0.002 else None

    def large(self, size: int) -> Message:
        """An invoice of very many lines, the same few over and over, whose record has up to `size` bytes."""
        event = self.event(lines=20)
        one = len(json.dumps(event["lines"]))
        return message({**event, "lines": event["lines"] * ((size - 1_000) // one)})

    def wrong(self, name: str) -> Message:
        """One wrong record of a class of WRONG."""
        reason, make = WRONG[name]
        event = self.event()
        return Message(event["invoice"].encode(), make(event), None, reason)

    def event(self, customer: str | None = None, lines: int | None = None) -> Event:
        """One new invoice of 2025."""
        rng = self.rng
        number = self._next_number
        self._next_number += 1
        if customer is None and rng.random() >= 0.1:
            customer = str(12_000 + int(self.customers * rng.random() ** 2))
        return {
            "version": 1,
            "invoice": f"{'C' if rng.random() < 0.03 else ''}{number}",
            "invoice_date": f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T"
            f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}",
            "customer_id": customer,
            "lines": [self._line() for _ in range(lines or rng.randint(1, 5))],
        }

    def _line(self) -> Event:
        rng = self.rng
        code = rng.choice(CODES)
        return {
            "stock_code": code,
            "description": rng.choice((f"Product {code}", f"Produk {code}", "  ")),
            "quantity": rng.choice((1, 1, 2, 3, 12, -1, 0)),
            "price": rng.choice(PRICES),
        }

    def _remember(self, event: Event) -> Event:
        self._sent.append(event)
        return event

    def _altered(self, event: Event) -> Event:
        """Another content under the same number, of the same customer: one partition, so one is the first."""
        changed = [{**line, "quantity": line["quantity"] + 1} for line in event["lines"]]
        return {**event, "lines": changed}


def message(event: Event, shuffle: random.Random | None = None) -> Message:
    """The record of an invoice, keyed as the contract says; `shuffle` writes its JSON in another order of keys."""
    ordered = event
    if shuffle is not None:
        keys = list(event)
        shuffle.shuffle(keys)
        ordered = {key: event[key] for key in keys}
    key = (event["customer_id"] or event["invoice"]).encode()
    return Message(key, json.dumps(ordered).encode(), event)


Make = Callable[[Event], bytes | None]


def _with(**changes: Any) -> Make:
    return lambda event: json.dumps({**event, **changes}).encode()


def _line_with(**changes: Any) -> Make:
    return lambda event: json.dumps({**event, "lines": [*event["lines"], {**event["lines"][0], **changes}]}).encode()


def _without(field: str) -> Make:
    return lambda event: json.dumps({k: v for k, v in event.items() if k != field}).encode()


def _line_without(field: str) -> Make:
    def make(event: Event) -> bytes:
        line = {k: v for k, v in event["lines"][0].items() if k != field}
        return json.dumps({**event, "lines": [line]}).encode()

    return make


def _text(change: Callable[[bytes], bytes]) -> Make:
    return lambda event: change(json.dumps(event).encode())


# Name of the class → (the reason that the contract's reader must give, the record's value).
WRONG: dict[str, tuple[str, Make]] = {
    "tombstone": ("no_value", lambda _: None),
    "larger than allowed": ("too_large", _with(note="x" * 1_000_001)),
    "bytes that are not UTF-8": ("not_utf8", _text(lambda text: text.replace(b"Produ", b"\xff\xfe", 1) + b"\xff")),
    "empty value": ("not_json", _text(lambda _: b"")),
    "cut off": ("not_json", _text(lambda text: text[:-3])),
    "trailing garbage": ("not_json", _text(lambda text: text + b" garbage")),
    "two documents": ("not_json", _text(lambda text: text + text)),
    "byte order mark": ("not_json", _text(lambda text: b"\xef\xbb\xbf" + text)),
    "nested too deeply": ("not_json", _text(lambda _: b"[" * 100_000)),
    "XML": ("not_json", _text(lambda _: b"<invoice/>")),
    "a key twice": ("duplicate_key", _text(lambda text: text.replace(b'"version": 1', b'"version": 1, "version": 1'))),
    "an array": ("not_an_object", _text(lambda text: b"[" + text + b"]")),
    "a line that is no object": ("not_an_object", lambda event: json.dumps({**event, "lines": ["x"]}).encode()),
    "unknown version": ("unknown_version", _with(version=2)),
    "version as text": ("unknown_version", _with(version="1")),
    "no version": ("missing_field", _without("version")),
    "no invoice number": ("missing_field", _without("invoice")),
    "no date": ("missing_field", _without("invoice_date")),
    "no customer field": ("missing_field", _without("customer_id")),
    "no lines field": ("missing_field", _without("lines")),
    "line without stock code": ("missing_field", _line_without("stock_code")),
    "line without price": ("missing_field", _line_without("price")),
    "line without quantity": ("missing_field", _line_without("quantity")),
    "invoice number as number": ("wrong_type", _with(invoice=17)),
    "customer as number": ("wrong_type", _with(customer_id=17850)),
    "price as number": ("wrong_type", _line_with(price=2.55)),
    "quantity as text": ("wrong_type", _line_with(quantity="6")),
    "empty invoice number": ("empty_text", _with(invoice="")),
    "empty stock code": ("empty_text", _line_with(stock_code="")),
    "invoice number too long": ("text_too_long", _with(invoice="9" * 65)),
    "NUL in a text": ("nul_character", _line_with(description="a\x00b")),
    "half a surrogate pair": ("bad_character", _line_with(description="\ud800")),
    "no such day": ("bad_date", _with(invoice_date="2025-02-30T08:26:00")),
    "no such offset": ("bad_date", _with(invoice_date="2025-12-01T08:26:00+25:00")),
    "too fine a fraction": ("bad_date", _with(invoice_date="2025-12-01T08:26:00.1234567")),
    "far future": ("future_date", _with(invoice_date="2099-12-01T08:26:00")),
    "NaN price": ("not_finite", _line_with(price="NaN")),
    "infinite quantity": ("not_finite", _line_with(quantity=float("inf"))),
    "half a piece": ("bad_number", _line_with(quantity=6.5)),
    "quantity out of range": ("bad_number", _line_with(quantity=2**31)),
    "price with a comma": ("bad_number", _line_with(price="2,55")),
    "price with 3 decimals": ("price_scale", _line_with(price="1.255")),
    "more than any shop sells": ("amount_out_of_range", _line_with(quantity=2**31 - 1, price="9999999999999999.99")),
    "no lines": ("no_lines", _with(lines=[])),
}


def every_class(traffic: Traffic, times: int) -> Iterator[Message]:
    """Wrong records of every class, `times` each."""
    for name in WRONG:
        for _ in range(times):
            yield traffic.wrong(name)
