"""Baskets for the nightly job, a lake and a mart to work on, and runs of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal

import psycopg2

from batch_rules.main import RunOptions, run_in
from conf.settings import Settings
from producer.csv_invoices import Invoice, Line

DAY = date(2026, 3, 10)


def sale(number: str, *codes: str, day: date = DAY, quantity: int = 1, price: str = "2.50") -> Invoice:
    """An invoice with one line a stock code, described as `Name of CODE`."""
    lines = [Line(code, f"Name of {code}", quantity, price) for code in codes]
    return Invoice(number, datetime.combine(day, time(10)), "C1", lines, 2)


def sales(*baskets: str, day: date = DAY, prefix: str = "I") -> list[Invoice]:
    """Invoices from texts such as "A B": an item is a stock code with a digit put behind it."""
    return [sale(f"{prefix}{i}", *(f"{item}1" for item in basket.split()), day=day) for i, basket in enumerate(baskets)]


@dataclass(frozen=True)
class Shop:
    """The settings of one test: an empty folder for the lake, and a migrated mart."""

    settings: Settings
    land: Callable[..., int]

    def rows(self, query: str, *parameters: object, role: str = "owner") -> list[tuple]:
        with closing(psycopg2.connect(self.settings.require_mart(role))) as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()


# bread 8 of 10 baskets, butter 5, both 5: butter → bread is sure.
BREAKFAST = [
    *("bread butter", "bread butter", "bread butter jam", "bread butter jam", "bread butter tea"),
    *("bread tea", "bread tea", "bread jam", "milk tea", "milk jam"),
]


def options(**more) -> RunOptions:
    return RunOptions(**({"business_date": DAY, "support": Decimal("0.2"), "confidence": Decimal("0.3")} | more))


def published(shop, spark, **more) -> int:
    return run_in(spark, shop.settings, options(**more)).run_id


def current(shop):
    return shop.rows("SELECT id, rules FROM mart.rule_run WHERE is_current")


def insert_applied(dsn: str, *days: tuple[str, date]) -> None:
    """Put (invoice, business date) into the mart as the stream would have."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO mart.invoice VALUES (%s, %s, 'C1', 1, 1, 2.50, 0, sha256('x'), 0, 0, now())""",
            [(invoice, datetime.combine(day, time(23, 59, 59))) for invoice, day in days],
        )
