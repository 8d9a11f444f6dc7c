"""The same itemsets and rules as mlxtend and as Spark's own associationRules, and the rules that the shop injects."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlxtend.frequent_patterns import association_rules, fpgrowth
from mlxtend.preprocessing import TransactionEncoder
from pyspark.ml.fpm import FPGrowth

from batch_rules.measure import measure
from batch_rules.mine import Itemsets, min_count, mine
from bench.lake import csv_invoices
from conf.line_rules import admin_codes
from producer.generate import Options, generate
from producer.shop import PRODUCTS, RULES, ZERO_PRICE_SHARE
from tests.builders.files import UCI, needs_uci

pytestmark = [pytest.mark.spark, pytest.mark.slow]

CONFIDENCE = Fraction("0.05")


def baskets_by_hand(folder: Path) -> list[list[str]]:
    """The baskets by plain Python, independent of batch_rules.baskets and of sql/spark.sql."""
    baskets = []
    for invoice in csv_invoices([folder]):
        codes = {
            line.stock_code
            for line in invoice.lines
            if line.quantity > 0
            and float(line.price) > 0
            and line.description.strip(" ")
            and any(c in "0123456789" for c in line.stock_code)
            and line.stock_code.strip(" ").upper() not in admin_codes()
        }
        if len(codes) >= 2 and not invoice.number.startswith("C"):
            baskets.append(sorted(codes))
    return baskets


def as_frame(spark, baskets):
    return spark.createDataFrame(
        pd.DataFrame({"invoice": [str(i) for i in range(len(baskets))], "items": baskets}),
        "invoice STRING, items ARRAY<STRING>",
    ).cache()


def itemsets_of(mined: Itemsets):
    return {frozenset(mined.codes[i] for i in items): count for items, count in mined.counts.items()}


def assert_same_as_mlxtend(baskets, mined, max_items=None):
    encoder = TransactionEncoder()
    frame = pd.DataFrame(encoder.fit_transform(baskets), columns=encoder.columns_)
    share = (min(mined.counts.values()) - 0.5) / len(baskets)
    theirs = fpgrowth(frame, min_support=share, use_colnames=True, max_len=max_items)
    assert itemsets_of(mined) == dict(
        zip(theirs["itemsets"], (theirs["support"] * len(baskets)).round().astype(int), strict=True)
    )
    table = association_rules(theirs, metric="confidence", min_threshold=0)
    exact = (table["support"] * len(baskets)).round(), (table["antecedent support"] * len(baskets)).round()
    table = table[
        (table["consequents"].str.len() == 1)
        & (exact[0] * CONFIDENCE.denominator >= exact[1] * CONFIDENCE.numerator)
        & (exact[0] * len(baskets) > exact[1] * (table["consequent support"] * len(baskets)).round())
    ]
    columns = ["support", "confidence", "lift", "leverage", "conviction", "zhangs_metric"]
    expected = {
        (row.antecedents, next(iter(row.consequents))): [getattr(row, column) for column in columns]
        for row in table.itertuples()
    }
    rules = measure(mined, CONFIDENCE)
    ours = {
        (frozenset(rules.codes[i] for i in antecedent), rules.codes[consequent]): measures
        for antecedent, consequent, *measures in zip(
            rules.antecedent,
            rules.consequent.tolist(),
            rules.support,
            rules.confidence,
            rules.lift,
            rules.leverage,
            np.where(np.isnan(rules.conviction), np.inf, rules.conviction),
            rules.zhang,
            strict=True,
        )
    }
    assert ours.keys() == expected.keys()
    assert len(ours) > 10
    keys = list(ours)
    np.testing.assert_allclose([ours[k] for k in keys], [expected[k] for k in keys], rtol=1e-9, atol=1e-9)


def assert_same_as_spark(frame, mined, support):
    share = (min_count(support, mined.baskets) - 0.5) / mined.baskets
    model = FPGrowth(itemsCol="items", minSupport=share, minConfidence=float(CONFIDENCE)).fit(frame)
    expected = {
        (frozenset(row["antecedent"]), row["consequent"][0]): (row["support"], row["confidence"], row["lift"])
        for row in model.associationRules.where("lift > 1").collect()
    }
    rules = measure(mined, CONFIDENCE)
    ours = {
        (frozenset(rules.codes[i] for i in a), rules.codes[c]): m
        for a, c, *m in zip(
            rules.antecedent, rules.consequent.tolist(), rules.support, rules.confidence, rules.lift, strict=True
        )
    }
    assert ours.keys() == expected.keys()
    np.testing.assert_allclose([ours[k] for k in ours], [expected[k] for k in ours], rtol=1e-9)


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    generate(Options(output=folder, lines=200_000, seed=7))
    return folder


@pytest.mark.parametrize("engine", ["eclat", "fpgrowth"])
@pytest.mark.parametrize("max_items", [None, 3])
def test_generated_shop(spark, shop_folder, engine, max_items):
    baskets = baskets_by_hand(shop_folder)
    frame = as_frame(spark, baskets)
    mined = mine(frame, Fraction("0.005"), max_items, 1_000_000, engine)
    assert_same_as_mlxtend(baskets, mined, max_items)
    if max_items is None:
        assert_same_as_spark(frame, mined, Fraction("0.005"))
    frame.unpersist()


def alone_or_zero_priced(antecedent: str, consequent: str, products=PRODUCTS, zero=ZERO_PRICE_SHARE) -> float:
    """P(no product but the two counts | the antecedent was picked), from the shop's picks: 1 + Poisson(2.9) of them.

    By which products are zero-priced (which is drawn a line): at most 2 of them at once, the rest is below 1 %
    of what this is a small part of.
    """
    weight = {p.code: p.popularity for p in products}
    total = sum(weight.values())
    share = {code: w / total for code, w in weight.items()}

    def expected_power(x: float) -> float:  # E x^(1 + Poisson(2.9))
        return x * float(np.exp(2.9 * (x - 1)))

    others = [code for code in share if code not in (antecedent, consequent)]
    both = share[antecedent] + share[consequent]
    no_other = 0.0
    for size in range(3):
        for free in combinations(others, size):
            odds = zero**size * (1 - zero) ** (len(others) - size)
            extra = sum(share[code] for code in free)
            no_other += odds * (expected_power(both + extra) - expected_power(share[consequent] + extra))
    return no_other / (1 - expected_power(1 - share[antecedent]))


def test_injected_rules_are_found_with_their_confidence(spark, shop_folder):
    """The shop puts the consequent into a share s of the antecedent's invoices. A line is free (and does not count)
    with probability z, and an invoice with one product left is no basket. So of the invoices with the antecedent,
    s(1-z) also hold the consequent, and 1 - (1 - s(1-z)) P(no other) are baskets.
    """
    baskets = baskets_by_hand(shop_folder)
    frame = as_frame(spark, baskets)
    rules = measure(mine(frame, Fraction("0.005"), 2, 1_000_000), CONFIDENCE)
    frame.unpersist()
    found = {
        (rules.codes[a[0]], rules.codes[c]): (confidence, count)
        for a, c, confidence, count in zip(
            rules.antecedent, rules.consequent.tolist(), rules.confidence, rules.antecedent_count, strict=True
        )
    }
    for (antecedent, consequent), share in RULES.items():
        with_consequent = share * (1 - ZERO_PRICE_SHARE)
        baskets_share = 1 - (1 - with_consequent) * alone_or_zero_priced(antecedent, consequent)
        expected = with_consequent / baskets_share
        confidence, count = found[(antecedent, consequent)]
        deviation = (expected * (1 - expected) / count) ** 0.5
        assert abs(confidence - expected) < 4 * deviation, (antecedent, confidence, expected, deviation)
    strongest = [
        (rules.codes[a[0]], rules.codes[c]) for a, c in zip(rules.antecedent[:6], rules.consequent[:6], strict=True)
    ]
    assert {frozenset(sides) for sides in strongest} == {frozenset(sides) for sides in RULES}  # by lift, both ways


@needs_uci
@pytest.mark.parametrize("max_items", [None, 3])
def test_uci(spark, max_items):
    baskets = baskets_by_hand(UCI)
    frame = as_frame(spark, baskets)
    mined = mine(frame, Fraction("0.005"), max_items, 1_000_000)
    frame.unpersist()
    assert mined.engine == "eclat"
    assert_same_as_mlxtend(baskets, mined, max_items)
