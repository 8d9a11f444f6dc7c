"""The ways to the rules that need no Spark: the same rules; and the comparison that says so."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_rules.eclat import Occurrences, frequent_itemsets
from batch_rules.measure import measure
from batch_rules.mine import Itemsets, min_count
from bench.growth import by_support
from bench.rules import IN_PYTHON, Case, differs, measured, prepare
from producer.csv_invoices import Invoice, Line


def invoice(number: str, *codes: str, quantity: int = 1) -> Invoice:
    lines = [Line(code, f"product {code}", quantity, "1.00") for code in codes]
    return Invoice(number, datetime(2026, 1, 1), None, lines, 1)


@pytest.fixture
def case(tmp_path) -> Case:
    chance = random.Random(42)
    invoices = [invoice(f"{n}", *(f"P{i}" for i in range(8) if chance.random() < 0.5)) for n in range(200)]
    baskets = prepare(invoices, tmp_path)
    return Case("made up", tmp_path, baskets, Decimal("0.05"), Decimal("0.05"), None)


def expected(case: Case) -> pa.Table:
    occurrences = Occurrences.of(pq.read_table(case.folder / "baskets.parquet")["items"])
    fewest = min_count(Fraction(case.support), case.baskets)
    counts = frequent_itemsets(occurrences, fewest, case.max_items, 1_000_000)
    itemsets = Itemsets(occurrences.codes, occurrences.baskets, counts, "eclat")
    return measured(measure(itemsets, Fraction(case.confidence)))


@pytest.mark.parametrize("way", IN_PYTHON)
@pytest.mark.parametrize("max_items", [None, 2])
def test_a_peer_finds_our_rules(case, way, max_items):
    case = Case(**vars(case) | {"max_items": max_items})
    baskets = pq.read_table(case.folder / "baskets.parquet")["items"].to_pylist()
    rules = expected(case)
    assert rules.num_rows > 10
    assert differs(measured(IN_PYTHON[way](baskets, case).rules), rules) is None


@pytest.mark.parametrize("way", IN_PYTHON)
def test_a_rule_at_the_lowest_confidence_is_found_by_every_way(tmp_path, way):
    """45 of 900 is 0.05, of 18,273 baskets: 45 / 18,273 divided by 900 / 18,273 is less, in floats."""
    assert (45 / 18_273) / (900 / 18_273) < 0.05
    both, one, rest = [["A", "B"]] * 45, [["A", "C"]] * 855, [["C", "D"]] * 17_373
    baskets = both + one + rest
    pq.write_table(pa.table({"items": baskets}), tmp_path / "baskets.parquet")
    case = Case("made up", tmp_path, len(baskets), Decimal("0.002"), Decimal("0.05"), None)
    rules = measured(IN_PYTHON[way](baskets, case).rules)
    assert "A > B" in rules["rule"].to_pylist()
    assert differs(rules, expected(case)) is None


def test_baskets_are_of_two_products_that_count(tmp_path):
    invoices = [
        invoice("1", "P2", "P1", "P2"),
        invoice("2", "P1"),
        invoice("C3", "P1", "P2"),
        invoice("4", "P1", "P2", quantity=-1),
        invoice("5", "P1", "POST", "P2"),
    ]
    assert prepare(invoices, tmp_path) == 2
    assert pq.read_table(tmp_path / "baskets.parquet").to_pylist() == [
        {"invoice": "1", "items": ["P1", "P2"]},
        {"invoice": "5", "items": ["P1", "P2"]},
    ]


def test_a_rule_or_a_measure_that_differs_is_told():
    rule = {"antecedent": [["b", "a"]], "consequent": [["c"]], "support": [0.5], "confidence": [0.6], "lift": [1.2]}
    one = measured(pd.DataFrame(rule))
    assert one["rule"].to_pylist() == ["a b > c"]
    assert differs(one, one) is None
    assert differs(measured(pd.DataFrame(rule | {"lift": [1.3]})), one) == "lift is off by 0.0833333"
    assert differs(measured(pd.DataFrame(rule | {"consequent": [["d"]]})), one) == "1 rules too many, 1 missing"


def test_growth_counts_itemsets_by_support_and_shows_a_refusal(case):
    rows = list(by_support(case, [Decimal("0.5"), Decimal("0.05")], max_itemsets=40))
    assert rows[0].figures["itemsets"] < 40
    assert "more than 40 itemsets" in str(rows[1].note)
