"""What the live shop sells, without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import pytest

from producer.live import Sale, bursts, run_prefix, sales
from producer.shop import FIRST_CUSTOMER, Shelf, catalogue, customers, generator

SHELF = Shelf(catalogue(30, 42))
PEOPLE = customers(2_000, generator(42, 0))


def first_sales(seed: int) -> list[Sale]:
    return list(islice(sales(SHELF, PEOPLE, generator(seed, 1)), 1_200))


def test_sales_follow_from_the_seed() -> None:
    assert first_sales(1) == first_sales(1)
    assert first_sales(1) != first_sales(2)


def test_ordinary_sales_go_to_those_who_still_come() -> None:
    lapsed = {str(FIRST_CUSTOMER + i) for i in PEOPLE.lapsed().tolist()}
    found = first_sales(1)
    assert not {s.customer_id for s in found} & lapsed
    assert 70 < sum(s.customer_id is None for s in found) < 170  # 10 % of 1,200, σ = 10
    prices = dict(zip(SHELF.codes, SHELF.prices.tolist(), strict=True))
    names = dict(zip(SHELF.codes, SHELF.descriptions, strict=True))
    for sale in found:
        assert sale.lines
        for line in sale.lines:
            assert line.price in ("0", str(prices[line.stock_code]))
            assert line.description == names[line.stock_code]


def groups(people_count: int, size: int) -> Iterator[list[Sale]]:
    return bursts(SHELF, customers(people_count, generator(42, 0)), size, generator(1, 2))


def test_bursts_bring_the_lapsed_back_others_each_time() -> None:
    lapsed = {str(FIRST_CUSTOMER + i) for i in PEOPLE.lapsed().tolist()}
    seen: set[str] = set()
    for group in islice(groups(2_000, 50), len(lapsed) // 50):
        ids = [s.customer_id for s in group if s.customer_id]
        assert len(ids) == len(group)
        assert set(ids) <= lapsed
        assert len(set(ids)) == 50
        assert all(1 <= ids.count(i) <= 3 for i in ids)
        assert not set(ids) & seen
        seen |= set(ids)


@pytest.mark.parametrize("people_count", [1, 2, 5])
def test_bursts_of_a_tiny_shop(people_count: int) -> None:
    assert all(len(group) >= 1 for group in islice(groups(people_count, 50), 5))


def test_runs_of_one_moment_differ() -> None:
    now = datetime(2024, 1, 2, 3, 4, 5)
    prefixes = {run_prefix(now) for _ in range(10)}
    assert len(prefixes) > 5
    assert all(p.startswith("L240102030405") and len(p) < 40 for p in prefixes)
