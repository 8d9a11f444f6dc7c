"""Eclat against counting by hand and by brute force."""

from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_rules.eclat import Occurrences, TooManyItemsetsError, frequent_itemsets

BASKETS = [["a", "b", "c"], ["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c", "d"]]


def mined(baskets, min_count, max_items=None, limit=None):
    occurrences = Occurrences.of(pa.array(baskets, pa.list_(pa.string())))
    found = frequent_itemsets(occurrences, min_count, max_items, limit)
    return {tuple(occurrences.codes[i] for i in items): count for items, count in found.items()}


def brute_force(baskets, min_count, max_items=None):
    items = sorted({item for basket in baskets for item in basket})
    counts = {
        items_: sum(set(items_) <= set(basket) for basket in baskets)
        for size in range(1, (max_items or len(items)) + 1)
        for items_ in combinations(items, size)
    }
    return {items_: count for items_, count in counts.items() if count >= min_count}


def test_by_hand():
    assert mined(BASKETS, 3) == {
        ("a",): 4,
        ("b",): 4,
        ("c",): 4,
        ("a", "b"): 3,
        ("a", "c"): 3,
        ("b", "c"): 3,
    }
    assert mined(BASKETS, 2)[("a", "b", "c")] == 2
    assert mined(BASKETS, 5) == {}
    assert mined([], 1) == {}


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=30),
    st.integers(1, 6),
    st.sampled_from([None, 1, 2, 3]),
)
def test_as_brute_force(baskets, min_count, max_items):
    assert mined(baskets, min_count, max_items) == brute_force(baskets, min_count, max_items)


def test_pairs_counted_in_steps(monkeypatch):
    monkeypatch.setattr("batch_rules.eclat._PAIRS_AT_ONCE", 1)
    baskets = [[f"{i:02}" for i in range(j, j + 12)] for j in range(40)]
    assert mined(baskets, 3, 3) == brute_force(baskets, 3, 3)


def test_slices_and_chunks_of_an_arrow_column():
    column = pa.chunked_array([pa.array(BASKETS[:2]), pa.array([["x"], *BASKETS[2:]]).slice(1)])
    occurrences = Occurrences.of(column)
    assert occurrences.baskets == len(BASKETS)
    assert dict(zip(occurrences.codes, occurrences.item_counts().tolist(), strict=True)) == {
        "a": 4,
        "b": 4,
        "c": 4,
        "d": 1,
    }


def test_the_limit_stops_before_the_sets_explode():
    everything = [[f"{i:02}" for i in range(40)]] * 3  # 2^40 sets
    with pytest.raises(TooManyItemsetsError) as pairs:
        mined(everything, 1, limit=800)
    assert (pairs.value.items, pairs.value.pairs, pairs.value.found) == (40, 780, 820)
    with pytest.raises(TooManyItemsetsError) as bigger:
        mined(everything, 1, limit=5_000)
    assert bigger.value.found < 6_000
    assert len(mined(everything, 1, max_items=2, limit=820)) == 820
