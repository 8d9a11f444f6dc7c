"""The measures on a table that can be checked by hand, and the exactness of the thresholds."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_rules.measure import measure
from batch_rules.mine import Itemsets, min_count


def rules_of(counts, baskets, confidence="0"):
    codes = sorted({item for items in counts for item in items})
    index = {code: i for i, code in enumerate(codes)}
    itemsets = Itemsets(
        codes, baskets, {tuple(sorted(index[i] for i in items)): c for items, c in counts.items()}, "test"
    )
    rules = measure(itemsets, Fraction(confidence))
    return rules, [
        ("".join(codes[i] for i in a), codes[c]) for a, c in zip(rules.antecedent, rules.consequent, strict=True)
    ]


def test_by_hand():
    """100 baskets, tea 20, sugar 40, both 16."""
    rules, sides = rules_of({"t": 20, "s": 40, "ts": 16}, 100)
    assert sides == [("t", "s"), ("s", "t")]
    t_s, s_t = 0, 1
    assert rules.support[t_s] == pytest.approx(0.16)
    assert rules.confidence[t_s] == pytest.approx(0.8)
    assert rules.lift[t_s] == pytest.approx(2)
    assert rules.leverage[t_s] == pytest.approx(0.16 - 0.2 * 0.4)
    assert rules.conviction[t_s] == pytest.approx(0.6 / 0.2)
    assert rules.zhang[t_s] == pytest.approx(0.08 / max(0.16 * 0.8, 0.2 * (0.4 - 0.16)))
    assert rules.confidence[s_t] == pytest.approx(0.4)
    assert (rules.together[s_t], rules.antecedent_count[s_t], rules.consequent_count[s_t]) == (16, 40, 20)


def test_several_antecedents_one_consequent():
    counts = {"a": 5, "b": 5, "c": 5, "ab": 4, "ac": 4, "bc": 4, "abc": 4}
    _, sides = rules_of(counts, 10)
    assert set(sides) == {
        *(("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")),
        *(("ab", "c"), ("ac", "b"), ("bc", "a")),
    }


def test_infinite_conviction_is_not_a_number():
    rules, sides = rules_of({"a": 5, "b": 6, "ab": 5}, 10)
    conviction = dict(zip(sides, rules.conviction, strict=True))
    assert conviction[("a", "b")] != conviction[("a", "b")]
    assert conviction[("b", "a")] == pytest.approx(0.5 / (1 - 5 / 6))


def test_thresholds_are_exact():
    assert rules_of({"a": 10, "b": 10, "ab": 3}, 100, "0.3")[1]  # 3/10 is not below 0.3, whatever floats say
    assert not rules_of({"a": 10, "b": 10, "ab": 3}, 100, "0.300001")[1]
    assert not rules_of({"a": 30, "b": 10, "ab": 3}, 100)[1]  # a lift of exactly 1
    assert rules_of({}, 10)[1] == []


def test_support_rounds_up_exactly():
    assert 0.07 * 100 > 7
    assert min_count(Fraction("0.07"), 100) == 7
    assert min_count(Fraction("0.005"), 18_273) == 92
    assert min_count(Fraction("0.005"), 10) == 1


@given(st.fractions(min_value=Fraction(1, 10**6), max_value=1), st.integers(1, 10**7))
def test_min_count_is_the_fewest_that_reach_the_share(support, baskets):
    fewest = min_count(support, baskets)
    assert Fraction(fewest, baskets) >= support
    assert fewest == 1 or Fraction(fewest - 1, baskets) < support


@given(st.integers(2, 10**6), st.data())
def test_measures_stay_in_the_ranges_of_the_mart(baskets, data):
    of_a = data.draw(st.integers(1, baskets))
    of_b = data.draw(st.integers(1, baskets))
    both = data.draw(st.integers(max(1, of_a + of_b - baskets), max(1, min(of_a, of_b))))
    rules, _ = rules_of({"a": of_a, "b": of_b, "ab": min(both, of_a, of_b)}, baskets)
    ranges = {"support": (0, 1), "confidence": (0, 1), "lift": (1, 1e18), "leverage": (0, 0.25), "zhang": (0, 1)}
    for name, (least, most) in ranges.items():
        assert all((least <= value) & (value <= most) for value in getattr(rules, name)), name
    assert not any(rules.conviction < 1)
