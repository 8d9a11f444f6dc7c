"""A lake and a mart of one test, and a way to sell a few baskets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

import psycopg2
import pytest
from pydantic import SecretStr
from pyspark.sql import SparkSession

from bench.lake import landed, write_lake
from conf.settings import Settings
from mart.migrate import migrate
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


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> tuple[str, Callable[..., int]]:
    """The path of a lake that is not there yet, and a function that lands invoices in it."""
    path = str(tmp_path / "lake")
    offsets = [0]

    def land(invoices: list[Invoice]) -> int:
        rows = landed(invoices, offsets[0])
        offsets[0] += len(invoices)
        return write_lake(spark, rows, path)

    return path, land


@pytest.fixture
def shop(fresh_mart, lake, spark) -> Shop:
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection:
        migrate(connection)
    path, land = lake
    settings = Settings(
        lake_path=path,
        mart_dsn=SecretStr(fresh_mart.writer_dsn),
        mart_owner_dsn=SecretStr(fresh_mart.owner_dsn),
        mart_reader_dsn=SecretStr(fresh_mart.reader_dsn),
    )
    return Shop(settings, land)
