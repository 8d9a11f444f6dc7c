"""Verify recomputes whatever apply took: times to the microsecond, and amounts larger than the contract takes today."""

from __future__ import annotations

import pytest

from operations.verify import LandingWait, verify
from streaming import parse, parse_plain
from tests.builders.records import event
from tests.builders.shop import Shop

pytestmark = pytest.mark.stack


@pytest.fixture
def shop(fresh_mart, tmp_path):
    shop = Shop(fresh_mart, tmp_path)
    yield shop
    shop.mart.connection.close()


def test_times_are_equal_to_the_microsecond_however_they_were_written(shop):
    applied = shop.send(
        [
            event("1", "2010-12-01T10:00:00", "ann"),
            event("1", "2010-12-01T03:00:00Z", "ann"),  # the same, so a duplicate
            event("2", "2010-12-01T23:59:59.999999", "ann"),
            event("2", "2010-12-01T16:59:59.9999990Z", "ann"),
            event("3", "2010-12-01T20:00:00.5+03:00", "bob"),  # midnight of the next day in the shop
            event("3", "2010-12-02T00:00:00.500001", "bob"),  # a microsecond is other content
        ]
    )
    assert (applied.invoices, applied.duplicates, applied.rejected) == (3, 2, 1)
    dates = shop.mart.rows("SELECT invoice, invoice_date::text FROM mart.invoice ORDER BY invoice")
    assert dates == [
        ("1", "2010-12-01 10:00:00"),
        ("2", "2010-12-01 23:59:59.999999"),
        ("3", "2010-12-02 00:00:00.5"),
    ]
    last = shop.mart.rows("SELECT last_purchase::text FROM mart.customer ORDER BY customer_id")
    assert last == [("2010-12-01 23:59:59.999999",), ("2010-12-02 00:00:00.5",)]
    assert shop.verify() == {}
    shop.spoil("UPDATE mart.invoice SET invoice_date = invoice_date + interval '1 microsecond' WHERE invoice = '2'")
    assert shop.verify()["invoice"] == 1
    shop.repair()
    assert shop.verify() == {}


@pytest.mark.parametrize("policy", ["ignore", "net"])
def test_amounts_that_an_older_version_took_are_recomputed(fresh_mart, tmp_path, monkeypatch, policy):
    """DuckDB ended with an OutOfRangeException: it keeps a product of an integer and a decimal(18,2) in 18 digits."""
    for reader in (parse, parse_plain):
        monkeypatch.setattr(reader, "MAX_AMOUNT_CENTS", 10**40)
    shop = Shop(fresh_mart, tmp_path, policy)
    most = ("A1", 2**31 - 1, "9999999999999999.99")
    applied = shop.send(
        [
            event("1", "2010-12-01", "ann", most, most),
            event("2", "2010-12-01", "ann", ("A1", -(2**31), "9999999999999999.99")),
            event("3", "2010-12-01", "bob", ("A1", 2, "9999999999999999.99"), ("B2", 1, "0.01")),
        ]
    )
    assert (applied.invoices, applied.rejected) == (3, 0)
    assert shop.verify() == {}
    shop.spoil("UPDATE mart.customer SET monetary = monetary - 0.01 WHERE customer_id = 'ann'")
    assert shop.verify()["customer"] == 1
    shop.repair()
    assert shop.verify() == {}
    shop.mart.connection.close()


def test_the_largest_amounts_of_the_contract(shop):
    most = ("A1", 1_000_000, "1000000000.00")
    applied = shop.send([event(str(n), "2010-12-01", "ann", most) for n in range(120)])  # more cents than 64 bits hold
    assert applied.invoices == 120
    assert shop.verify() == {}
    applied = shop.send([event("more", "2010-12-01", "ann", most, ("B2", -1, "0.01"))])
    assert dict(applied.rejected_by_reason) == {"amount_out_of_range": 1}


def test_a_wait_for_the_lake_is_told_with_how_far_it_is(shop):
    shop.send([event("1", "2010-12-01T10:00:00", "ann")])
    behind = shop.records([event(str(n), "2010-12-01T10:00:00", "bob") for n in range(2, 5)])
    shop.apply(behind)
    told: list[str] = []

    def tell(news: str) -> None:
        told.append(news)
        shop.land(behind)

    assert verify(shop.settings, wait_seconds=600, tell=tell).equal
    assert told == ["the lake is 3 records behind the mart: waiting for landing, up to 600 s (Ctrl-C ends)"]


def test_a_wait_in_which_nothing_lands_says_what_to_start():
    wait = LandingWait(180)
    said = [wait.news(behind, at) for at, behind in ((0, 300), (1, 300), (15, 300), (29, 120), (31, 120), (110, 120))]
    assert said == [
        "the lake is 300 records behind the mart: waiting for landing, up to 180 s (Ctrl-C ends)",
        "",
        "the lake is 300 records behind the mart, 165 s left",
        "",
        "the lake is 120 records behind the mart, 149 s left",
        "the lake is 120 records behind the mart, 70 s left; nothing has landed for 81 s: is landing running? It can "
        "catch up alone: `retail-mart run --only land --available-now`",
    ]
