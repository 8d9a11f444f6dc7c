"""Fixtures of the dashboards' tests: a filled mart, the page in a process of its own, a browser without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.csv_invoices import Invoice
from tests.builders.pipeline import Mart
from tests.builders.served import served
from tests.dashboards.browser import launched
from tests.dashboards.shop import Shop, invoices

DAYS = 6
CUSTOMERS = 400


@pytest.fixture(scope="session")
def sold(tmp_path_factory: pytest.TempPathFactory) -> list[Invoice]:
    """Six days of a generated shop, 500 invoices each, in order."""
    return list(invoices(tmp_path_factory.mktemp("shop"), DAYS, CUSTOMERS))


@pytest.fixture
def shop(fresh_mart: Mart, sold: list[Invoice]) -> Iterator[Shop]:
    """A mart with all but the last of those days, some wrong records, and two runs of rules."""
    shop = Shop(fresh_mart.owner_dsn, fresh_mart.writer_dsn)
    shop.apply_all(iter(sold[:-500]))
    shop.apply([], wrong=5)
    shop.publish_rules()
    yield shop
    shop.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable; skips where none is installed."""
    pytest.importorskip("playwright", reason="the Python package playwright is not installed: pip install -e '.[dev]'")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One browser for a file's tests."""
    with launched(chromium) as browser:
        yield browser


@pytest.fixture
def url(shop: Shop, fresh_mart: Mart) -> Iterator[str]:
    """Where the filled mart's page is served."""
    with served(fresh_mart.reader_dsn) as page:
        yield page.url()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Folder of the screenshots, kept after the run for a person to look at."""
    folder = Path(__file__).parents[1] / "out"
    folder.mkdir(exist_ok=True)
    return folder
