"""The shop's model: the stated shares hold, and baskets are baskets."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from producer.shop import (
    ADMIN_LINES,
    ADMIN_SHARE,
    CLOSING_HOUR,
    OPENING_HOUR,
    PRODUCTS,
    RULES,
    ZERO_PRICE_SHARE,
    Baskets,
    Shelf,
    catalogue,
    customers,
    day_seconds,
    generator,
    rhythm,
    with_returns,
)

COUNT = 50_000


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf(catalogue(30, 1))


@pytest.fixture(scope="module")
def baskets(shelf: Shelf) -> Baskets:
    return shelf.baskets(COUNT, generator(1, 1))


def assert_share(hits: int, of: int, share: float) -> None:
    """The hits are within four standard deviations of a binomial of that share."""
    assert of > 1_000
    assert abs(hits / of - share) < 4 * sqrt(share * (1 - share) / of)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("products", [7, 30, 200])
def test_rules_are_injected_with_their_shares(rule: tuple[str, str], products: int) -> None:
    shelf = Shelf(catalogue(products, 1))
    baskets = shelf.baskets(COUNT, generator(2, products))
    antecedent, consequent = (
        set(baskets.invoice[baskets.product == shelf.codes.index(code)].tolist()) for code in rule
    )
    assert_share(len(antecedent & consequent), len(antecedent), RULES[rule])
    if products >= 30:  # a rule that anyone can find: well above what chance makes
        assert RULES[rule] / (len(consequent) / COUNT) > 1.5


def test_shares_of_lines(shelf: Shelf, baskets: Baskets) -> None:
    assert_share(int((baskets.price == 0).sum()), len(baskets), ZERO_PRICE_SHARE)
    assert_share(int((baskets.product >= len(shelf.products)).sum()), len(baskets), ADMIN_SHARE)


def test_baskets_are_baskets(shelf: Shelf, baskets: Baskets) -> None:
    assert np.array_equal(np.unique(baskets.invoice), np.arange(COUNT))  # none is empty
    assert (np.diff(baskets.invoice) >= 0).all()
    goods = baskets.product < len(shelf.products)
    pairs = baskets.invoice[goods] * 1_000 + baskets.product[goods]
    assert len(np.unique(pairs)) == len(pairs)  # a product once
    assert (baskets.quantity[goods] > 0).all()
    paid = baskets.price > 0
    assert np.array_equal(baskets.price[paid], shelf.prices[baskets.product[paid]])
    discounts = baskets.product == shelf.codes.index("DISCOUNT")
    assert discounts.any()
    assert (baskets.quantity[discounts] == -1).all()
    # Charges come last.
    same_invoice = np.diff(baskets.invoice) == 0
    assert not (same_invoice & ~goods[:-1] & goods[1:]).any()


def test_returns_give_back_an_earlier_purchase(baskets: Baskets) -> None:
    lines = with_returns(baskets, 0.10, generator(3, 1))
    returned = np.flatnonzero(lines.origin != np.arange(COUNT))
    assert_share(len(returned), COUNT, 0.10)
    assert not np.isin(lines.origin[returned], returned).any()
    assert (lines.origin[returned] < returned).all()

    def content(of: Baskets, invoice: int) -> list[tuple[int, int, int]]:
        rows = of.invoice == invoice
        return list(zip(of.product[rows].tolist(), of.quantity[rows].tolist(), of.price[rows].tolist(), strict=True))

    for invoice in returned[:20].tolist():
        bought = content(baskets, int(lines.origin[invoice]))
        assert content(lines, invoice) == [(p, -q, price) for p, q, price in bought]
    kept = int(np.flatnonzero(lines.origin == np.arange(COUNT))[100])
    assert content(lines, kept) == content(baskets, kept)


def test_a_cut_keeps_what_comes_first(baskets: Baskets) -> None:
    cut = baskets.cut(10)
    assert len(cut) == 10
    assert len(cut.origin) == cut.invoice[-1] + 1
    assert len(baskets.cut(0)) == len(baskets.cut(0).origin) == 0


def test_the_first_thirty_products() -> None:
    by_code = {p.code: p for p in PRODUCTS}
    assert len(PRODUCTS) == len(by_code) == 30
    wanted = {
        "IND-001": "Indomie", "IND-002": "Telur", "HHLD-001": "Sunlight", "HHLD-002": "Spons",
        "BEV-001": "Teh Botol", "BEV-002": "Aqua", "RICE-001": "Beras",
    }  # fmt: skip
    assert all(by_code[code].description.startswith(name) for code, name in wanted.items())
    assert {p.code for p in catalogue(7, 1)} == set(wanted)
    assert not {code for code, *_ in ADMIN_LINES} & set(by_code)


def test_more_products_are_made_up_the_same_way_each_time() -> None:
    more = catalogue(500, 7)
    assert more == catalogue(500, 7)
    assert more != catalogue(500, 8)
    assert more[:30] == PRODUCTS
    assert len({p.code for p in more}) == 500
    assert all(p.price > 0 and not set(p.description) & set(',"\n') for p in more)


def test_visitors_are_active_and_the_frequent_come_more_often() -> None:
    people = customers(6_001, generator(1, 0))
    rng = generator(1, 9)
    for at in (0.0, 0.5, 1.0):
        drawn = people.draw(20_000, at, rng)
        assert (people.first[drawn] <= at).all()
        assert (people.last[drawn] >= at).all()
        assert people.weight[drawn].mean() > 2 * people.weight.mean()
    assert people.ids(np.array([0, 6_000])).tolist() == [12_000, 18_000]
    assert (people.last[people.lapsed()] < 1).all()


def test_the_day_has_its_rhythm() -> None:
    seconds = day_seconds(COUNT, generator(1, 2))
    assert (np.diff(seconds) >= 0).all()
    hours = np.bincount(seconds // 3600, minlength=24)
    assert hours[:OPENING_HOUR].sum() == hours[CLOSING_HOUR:].sum() == 0
    assert hours[18] > 2 * hours[8] > 0
    open_hours = range(OPENING_HOUR, CLOSING_HOUR)
    assert sum(rhythm(h) for h in open_hours) / len(open_hours) == pytest.approx(1)
    assert 0 < rhythm(3) < rhythm(8) < rhythm(18)
