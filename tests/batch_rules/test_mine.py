"""Mining: FPGrowth and Eclat find the same, and neither starts what cannot end."""

from fractions import Fraction

import numpy as np
import pytest

from batch_rules import mine as module
from batch_rules.errors import KeptBackError
from batch_rules.mine import mine

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def baskets(spark):
    """400 baskets of 20 items, the lower ones more often."""
    rng = np.random.default_rng(1)
    rows = [(str(i), sorted({f"P{int(p):02}" for p in rng.geometric(0.15, 6) if p <= 20})) for i in range(400)]
    frame = spark.createDataFrame(rows, "invoice STRING, items ARRAY<STRING>").where("size(items) >= 2").cache()
    yield frame
    frame.unpersist()


def by_code(itemsets):
    return {frozenset(itemsets.codes[i] for i in items): count for items, count in itemsets.counts.items()}


@pytest.mark.parametrize("max_items", [None, 2, 3])
def test_engines_find_the_same(baskets, max_items):
    support = Fraction("0.02")
    eclat, fpgrowth = (mine(baskets, support, max_items, 10_000, engine) for engine in ("eclat", "fpgrowth"))
    assert (eclat.engine, fpgrowth.engine) == ("eclat", "fpgrowth")
    assert eclat.baskets == fpgrowth.baskets == baskets.count()
    assert by_code(eclat) == by_code(fpgrowth)
    assert {len(items) for items in eclat.counts} >= {1, 2}


def test_itemsets_are_ascending_and_closed_under_subsets(baskets):
    for engine in ("eclat", "fpgrowth"):
        counts = mine(baskets, Fraction("0.02"), None, 10_000, engine).counts
        for items in counts:
            assert list(items) == sorted(items)
            assert all(items[:i] + items[i + 1 :] in counts for i in range(len(items)) if len(items) > 1)


def test_what_is_too_big_for_the_driver_goes_to_fpgrowth(baskets, monkeypatch):
    assert mine(baskets, Fraction("0.1"), None, 10_000).engine == "eclat"
    monkeypatch.setattr(module, "DRIVER_ITEMS", 2)
    assert mine(baskets, Fraction("0.1"), None, 10_000).engine == "fpgrowth"
    monkeypatch.undo()
    monkeypatch.setattr(module, "DRIVER_OCCURRENCES", 100)
    assert mine(baskets, Fraction("0.1"), None, 10_000).engine == "fpgrowth"


@pytest.mark.parametrize("engine", ["eclat", "fpgrowth"])
def test_explosion_is_refused_with_the_support_that_would_do(baskets, engine):
    with pytest.raises(KeptBackError, match=r"support 0\.01 \(4 of .* is too low") as refused:
        mine(baskets, Fraction("0.01"), None, 100, engine)
    advised = str(refused.value).split("--support ")[1].split()[0]
    found = mine(baskets, Fraction(advised), None, 100, engine)
    assert f"--support {advised} would give {len(found.counts)};" in str(refused.value)


def test_fpgrowth_is_guarded_by_a_sample(baskets, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_BASKETS", 100)
    with pytest.raises(KeptBackError, match=r"of (9\d|1[0-3]\d|[78]\d) baskets\) is too low"):
        mine(baskets, Fraction("0.01"), None, 100, "fpgrowth")
    assert mine(baskets, Fraction("0.1"), None, 100, "fpgrowth").baskets == baskets.count()


def test_no_baskets(spark):
    with pytest.raises(KeptBackError, match="no baskets"):
        mine(spark.createDataFrame([], "invoice STRING, items ARRAY<STRING>"), Fraction("0.1"), None, 100)
