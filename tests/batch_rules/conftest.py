"""A lake and a mart of one test, and a way to sell a few baskets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from pydantic import SecretStr
from pyspark.sql import SparkSession

from bench.lake import landed, write_lake
from conf.settings import Settings
from mart.migrate import migrate
from producer.csv_invoices import Invoice
from tests.builders.nightly import Shop


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
