"""Write a shop's history as daily CSV files, the same bytes for the same options."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from conf.counted import counted
from conf.errors import UsageError
from producer.csv_invoices import FIRST_YEAR, LAST_YEAR
from producer.shop import (
    ANONYMOUS_SHARE,
    DEFAULT_CUSTOMERS,
    MIN_PRODUCTS,
    Baskets,
    Codes,
    Shelf,
    catalogue,
    customers,
    day_seconds,
    generator,
    with_returns,
)

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID"
DEFAULT_LINES = 1_000_000
DEFAULT_INVOICES_PER_DAY = 500
MEAN_LINES = 4.0  # an invoice, roughly; nothing that is exact rests on it
_NUMBERS_PER_DAY = 1_000_000  # the invoice number is the day followed by six digits
_FILE_NAME = re.compile(r"transaksi_\d{4}-\d{2}-\d{2}\.csv")
_WITHOUT_HEADER = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")


class OptionError(UsageError, ValueError):
    """An option's value makes no sense; the message names the option, the value and what is allowed."""


@dataclass(frozen=True)
class Options:
    """What to generate.

    `lines` alone: exactly that many lines, `invoices_per_day` invoices a day, as many days as it takes.
    `days` alone: that many days of `invoices_per_day` invoices. Both: exactly the lines, spread evenly over
    the days. Neither: a million lines. With `until`, that is the last day; else `start_date` is the first. Raises
    OptionError.
    """

    output: Path
    lines: int | None = None
    days: int | None = None
    invoices_per_day: int | None = None
    start_date: date = date(2024, 1, 1)
    until: date | None = None
    customers: int = DEFAULT_CUSTOMERS
    products: int = 30
    seed: int = 42
    returns_share: float = 0.0

    def __post_init__(self) -> None:
        def check(name: str, value: float | None, least: float, most: float) -> None:
            if value is not None and not least <= value <= most:
                raise OptionError(f"--{name} {value}: give a number from {least:,} to {most:,}")

        check("lines", self.lines, 1, 10_000_000_000)
        check("days", self.days, 1, 36_500)
        check("invoices-per-day", self.invoices_per_day, 1, _NUMBERS_PER_DAY - 1)
        check("customers", self.customers, 1, 10_000_000)
        check("products", self.products, MIN_PRODUCTS, 100_000)
        check("seed", self.seed, 0, 2**63 - 1)
        check("returns-share", self.returns_share, 0, 0.5)
        if self.lines is not None and self.days is not None:
            if self.invoices_per_day is not None:
                raise OptionError("--invoices-per-day follows from --lines and --days: give two of the three")
            if not self.days <= self.lines <= self.days * (_NUMBERS_PER_DAY - 1):
                raise OptionError(f"--lines {self.lines:,} over --days {self.days:,}: a day takes 1 to 999,999 lines")
        per_day = self.invoices_per_day or DEFAULT_INVOICES_PER_DAY
        days = self.days or 1 + int(1.1 * self.expected_lines / (MEAN_LINES * per_day))
        first, last = date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 12, 31)
        end = self.until or self.start_date
        room = (end - first if self.until else last - end).days + 1
        if not first <= end <= last or days > room:
            which = f"until --until {end}" if self.until else f"from --start-date {end} on"
            raise OptionError(
                f"about {counted(days, 'day')} {which}: an invoice's year must be in {FIRST_YEAR}..{LAST_YEAR}"
            )

    @property
    def expected_lines(self) -> int:
        """The lines that it will be: exact, unless only the days are given."""
        if self.lines is not None:
            return self.lines
        per_day = self.invoices_per_day or DEFAULT_INVOICES_PER_DAY
        return DEFAULT_LINES if self.days is None else int(self.days * per_day * MEAN_LINES)


class Summary(NamedTuple):
    output: Path
    first_day: date
    days: int
    invoices: int
    lines: int
    seconds: float

    @property
    def last_day(self) -> date:
        return self.first_day + timedelta(days=self.days - 1)


class Day(NamedTuple):
    """One day's sales: `table` has one row a line, in the order of the file."""

    day: date
    invoices: int
    table: pa.Table


def generate(options: Options, overwrite: bool = False, on_progress: Callable[[int], None] | None = None) -> Summary:
    """Write one file a day, `transaksi_YYYY-MM-DD.csv`, into options.output.

    `on_progress` gets the number of lines of each day. Daily files of an earlier run in the
    folder are removed with `overwrite`, otherwise they raise OptionError, for two shops in one folder would
    be replayed as one.
    """
    started = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    earlier = [f for f in options.output.iterdir() if _FILE_NAME.fullmatch(f.name)]
    if earlier and not overwrite:
        raise OptionError(
            f"--output {options.output} already holds {counted(len(earlier), 'daily file')}: choose another folder, "
            "or give --overwrite to replace them"
        )
    for file in earlier:
        file.unlink()
    first_day = _first_day(options)
    days = invoices = lines = 0
    pending: Future[None] | None = None
    with ThreadPoolExecutor(max_workers=1) as writer:  # a day is written while the next one is drawn
        for day in _days_from(first_day, options):
            if pending:
                pending.result()
            pending = writer.submit(_write, day, options.output)
            days, invoices, lines = days + 1, invoices + day.invoices, lines + day.table.num_rows
            if on_progress:
                on_progress(day.table.num_rows)
        if pending:
            pending.result()
    return Summary(options.output, first_day, days, invoices, lines, time.monotonic() - started)


def _write(day: Day, folder: Path) -> None:
    with (folder / f"transaksi_{day.day.isoformat()}.csv").open("wb") as file:
        file.write(HEADER.encode() + b"\n")
        pyarrow.csv.write_csv(day.table, file, _WITHOUT_HEADER)


def shop_days(options: Options) -> Iterator[Day]:
    """The days of the shop one by one."""
    return _days_from(_first_day(options), options)


def _first_day(options: Options) -> date:
    if options.until is None:
        return options.start_date
    days = options.days or sum(1 for _ in _sold_by_day(options, Shelf(catalogue(options.products, options.seed))))
    return options.until - timedelta(days=days - 1)


def _days_from(first_day: date, options: Options) -> Iterator[Day]:
    shelf = Shelf(catalogue(options.products, options.seed))
    people = customers(options.customers, generator(options.seed, 0))
    per_day = options.invoices_per_day or DEFAULT_INVOICES_PER_DAY
    history = options.days or options.expected_lines / (MEAN_LINES * per_day)  # in days
    for number, (baskets, rng) in enumerate(_sold_by_day(options, shelf)):
        buyers = people.ids(people.draw(len(baskets.origin), min(1.0, (number + 0.5) / history), rng))
        yield _sell(first_day + timedelta(days=number), baskets, shelf, buyers, rng)


def _sold_by_day(options: Options, shelf: Shelf) -> Iterator[tuple[Baskets, np.random.Generator]]:
    """What each day sells, whatever its date, and its generator of numbers, seeded by (seed, number of the day)."""
    per_day = options.invoices_per_day or DEFAULT_INVOICES_PER_DAY
    lines = options.lines or (DEFAULT_LINES if options.days is None else None)
    sold = number = 0
    while number < options.days if options.days is not None else sold < (lines or 0):
        rng = generator(options.seed, 1 + number)
        if lines is not None and options.days is not None:
            quota = lines * (number + 1) // options.days - sold
            baskets = _at_least(quota, shelf, options.returns_share, rng)
        else:
            baskets = with_returns(shelf.baskets(per_day, rng), options.returns_share, rng)
        if lines is not None and sold + len(baskets) > lines:  # the shop's last invoice is cut short
            baskets = baskets.cut(lines - sold)
        yield baskets, rng
        sold += len(baskets)
        number += 1


def _at_least(lines: int, shelf: Shelf, returns_share: float, rng: np.random.Generator) -> Baskets:
    """As many whole invoices as it takes to reach `lines` lines, none if lines ≤ 0 (a quiet day)."""
    count = int(max(lines, 0) / MEAN_LINES * 1.3) + 20
    baskets = with_returns(shelf.baskets(count, rng), returns_share, rng)
    while len(baskets) < lines:
        count *= 2
        baskets = with_returns(shelf.baskets(count, rng), returns_share, rng)
    if lines <= 0:
        return baskets.cut(0)
    return baskets.cut(int(np.searchsorted(baskets.invoice, baskets.invoice[lines - 1], side="right")))


def _sell(day: date, baskets: Baskets, shelf: Shelf, buyers: Codes, rng: np.random.Generator) -> Day:
    """Give the baskets a buyer, a moment and a number each."""
    count = len(baskets.origin)
    buyer = buyers[baskets.origin]
    anonymous = (rng.random(count) < ANONYMOUS_SHARE)[baskets.origin]
    second = day_seconds(count, rng)
    number = pc.cast(
        pa.array(int(day.isoformat().replace("-", "")) * _NUMBERS_PER_DAY + 1 + np.arange(count)), pa.string()
    )
    returned = pa.array(baskets.origin != np.arange(count))
    number = pc.binary_join_element_wise(pc.if_else(returned, "C", ""), number, "")
    invoice, product = pa.array(baskets.invoice), pa.array(baskets.product)
    table = pa.table(
        {
            "Invoice": number.take(invoice),
            "StockCode": pa.array(shelf.codes).take(product),
            "Description": pa.array(shelf.descriptions).take(product),
            "Quantity": baskets.quantity,
            "InvoiceDate": pa.array(np.datetime64(day, "s") + second[baskets.invoice], pa.timestamp("s")),
            "Price": baskets.price,
            "Customer ID": pa.array(buyer, mask=anonymous).take(invoice),
        }
    )
    return Day(day, count, table)
