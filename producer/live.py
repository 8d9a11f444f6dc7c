"""A shop that sells right now: invoices at a rate, day's rhythm and bursts included, until it is stopped."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from math import inf
from threading import Event
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from producer.csv_invoices import Invoice, Line
from producer.event import event, record_key
from producer.send import Sender
from producer.shop import (
    ANONYMOUS_SHARE,
    DEFAULT_CUSTOMERS,
    Codes,
    Customers,
    Shelf,
    catalogue,
    customers,
    generator,
    rhythm,
)

_STREAM = 2**40  # of random numbers: far from those of generate's days
_AT_A_TIME = 500  # baskets drawn in one go
_TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Options:
    """What to sell: `rate` invoices a second, on average over the opening hours, or at all hours (`with_rhythm` False),
    by the shop of `generate` with the same numbers and seed. Every `burst_seconds` (None: never) a group of
    `burst_customers` buys beside that, at once. For `duration` seconds; None: without end."""

    rate: float
    zone: ZoneInfo
    with_rhythm: bool = True
    burst_seconds: float | None = None
    burst_customers: int = 50
    duration: float | None = None
    customers: int = DEFAULT_CUSTOMERS
    products: int = 30
    seed: int = 42


class Sale(NamedTuple):
    customer_id: str | None
    lines: list[Line]


class Summary(NamedTuple):
    invoices: int
    """Acknowledged by the brokers."""
    bursts: int
    seconds: float
    stopped: bool


def sales(shelf: Shelf, people: Customers, rng: np.random.Generator) -> Iterator[Sale]:
    """Ordinary sales without end, to those who still come to the shop."""
    while True:
        buyers = people.draw(_AT_A_TIME, 1.0, rng)
        anonymous = rng.random(_AT_A_TIME) < ANONYMOUS_SHARE
        yield from _sales(shelf, people, buyers, anonymous, rng)


def bursts(shelf: Shelf, people: Customers, size: int, rng: np.random.Generator) -> Iterator[list[Sale]]:
    """Groups of up to `size` customers without end, each buying one to three times.

    Lapsed customers come back, others each time until all have; in a shop without any, whoever is there.
    """
    while True:
        lapsed = people.lapsed()
        pool = rng.permutation(lapsed if len(lapsed) else np.arange(len(people.weight)))
        for first in range(0, len(pool), size):
            group = pool[first : first + size]
            buyers = np.repeat(group, rng.integers(1, 4, size=len(group)))
            yield list(_sales(shelf, people, buyers, np.zeros(len(buyers), dtype=bool), rng))


def _sales(
    shelf: Shelf, people: Customers, buyers: Codes, anonymous: NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[Sale]:
    baskets = shelf.baskets(len(buyers), rng)
    starts = np.searchsorted(baskets.invoice, np.arange(len(buyers) + 1)).tolist()
    products, quantities, prices = (column.tolist() for column in (baskets.product, baskets.quantity, baskets.price))
    ids = people.ids(buyers).tolist()
    for i, unknown in enumerate(anonymous.tolist()):
        lines = [
            Line(shelf.codes[products[j]], shelf.descriptions[products[j]], quantities[j], str(prices[j]))
            for j in range(starts[i], starts[i + 1])
        ]
        yield Sale(None if unknown else str(ids[i]), lines)


def run_prefix(now: datetime) -> str:
    """The beginning of a run's invoice numbers: its start, and two random bytes for runs of the same second."""
    return f"L{now:%y%m%d%H%M%S}{secrets.token_hex(2)}"


def live(
    options: Options,
    sender: Sender[int],
    stop: Event | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Sell as the options say, dated now in the shop's zone.

    Ends after the options' duration, or when `stop` is set, and waits until the last invoice is acknowledged.
    `on_progress` gets invoices sent and bursts. Raises what the sender raises.
    """
    shelf = Shelf(catalogue(options.products, options.seed))
    people = customers(options.customers, generator(options.seed, 0))
    rng = generator(options.seed, _STREAM)
    stop = stop or Event()
    prefix = run_prefix(datetime.now(options.zone))
    ordinary, groups = sales(shelf, people, rng), bursts(shelf, people, options.burst_customers, rng)
    began = time.monotonic()
    end = began + (inf if options.duration is None else options.duration)
    burst_seconds = options.burst_seconds or inf
    next_sale, next_tick, next_burst = began, began, began + burst_seconds
    burst_count = 0

    def sell(sale: Sale, now: datetime) -> None:
        number = f"{prefix}-{sender.sent + 1:06d}"
        invoice = Invoice(number, now.replace(tzinfo=None), sale.customer_id, sale.lines, 0)
        sender.send(record_key(invoice), event(invoice), sender.sent + 1)

    while True:
        due = min(next_sale, next_burst, next_tick, end)
        if (seconds := due - time.monotonic()) > 0:
            stop.wait(seconds)
        if stop.is_set() or due == end:
            break
        now = datetime.now(options.zone)
        if due == next_burst:
            for sale in next(groups):
                sell(sale, now)
            burst_count += 1
            next_burst += burst_seconds
        elif due == next_sale:
            sell(next(ordinary), now)
            next_sale += 1 / (options.rate * (rhythm(now.hour) if options.with_rhythm else 1))
        else:
            sender.collect()
            if on_progress:
                on_progress(sender.sent, burst_count)
            next_tick = time.monotonic() + _TICK_SECONDS
    sender.flush()
    return Summary(sender.acknowledged, burst_count, time.monotonic() - began, stop.is_set())
