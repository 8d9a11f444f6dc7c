"""Eclat: all frequent itemsets of baskets that fit into memory, by counting pairs and intersecting bit sets.

The baskets of an item are one Python integer with one bit per basket, so that the baskets of an itemset are an AND and
its count a popcount. Pairs are counted first, all at once: they tell where a bigger set can be frequent at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Itemset = tuple[int, ...]
_PAIRS_AT_ONCE = 2_000_000  # what one step of the pair count holds in memory; more is slower, for the caches


class TooManyItemsetsError(Exception):
    """More itemsets are frequent than the limit allows; `found` are certain, `pairs` of them, of `items` items."""

    def __init__(self, items: int, pairs: int, found: int) -> None:
        super().__init__(f"{found} itemsets and counting, of {items} items and {pairs} pairs")
        self.items, self.pairs, self.found = items, pairs, found


@dataclass(frozen=True)
class Occurrences:
    """Who bought what: one element per occurrence of an item in a basket, each at most once.

    `basket` is a number from 0 to baskets - 1, `item` an index into `codes`, which are in alphabetical order.
    """

    baskets: int
    basket: Integers
    item: Integers
    codes: list[str]

    @classmethod
    def of(cls, items: pa.ListArray | pa.ChunkedArray) -> Occurrences:
        """From the lists of the baskets' distinct stock codes."""
        lists = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
        flat = lists.flatten().dictionary_encode()
        names = np.array(flat.dictionary.to_pylist(), dtype=object)
        order = np.argsort(names)
        place = np.empty(len(names), dtype=np.int64)
        place[order] = np.arange(len(names))
        lengths = np.diff(lists.offsets.to_numpy())
        return cls(
            len(lists),
            np.repeat(np.arange(len(lists)), lengths),
            place[flat.indices.to_numpy()],
            names[order].tolist(),
        )

    def item_counts(self) -> Integers:
        """Baskets of each item."""
        return np.bincount(self.item, minlength=len(self.codes))


def frequent_itemsets(
    occurrences: Occurrences, min_count: int, max_items: int | None = None, limit: int | None = None
) -> dict[Itemset, int]:
    """Every set of items that at least `min_count` baskets hold, with that count; items ascending in each set.

    `max_items` limits the size of a set. Raises TooManyItemsetsError as soon as more than `limit` are certain, at the
    earliest after counting the pairs, before any bigger set is examined.
    """
    counts = occurrences.item_counts()
    frequent = np.flatnonzero(counts >= min_count)
    # The rarest first, because they have few candidates.
    frequent = frequent[np.argsort(counts[frequent], kind="stable")]
    item_of = frequent.tolist()
    itemsets: dict[Itemset, int] = {(item,): int(counts[item]) for item in item_of}
    if max_items == 1 or len(item_of) < 2:
        _check(len(itemsets), limit, len(item_of), 0)
        return itemsets

    basket, rank = _ranked(occurrences, frequent)
    pair_counts = _pair_counts(basket, rank, len(item_of))
    first, second = np.nonzero(pair_counts >= min_count)
    pairs = len(first)
    _check(len(itemsets) + pairs, limit, len(item_of), pairs)
    partners: list[dict[int, int]] = [{} for _ in item_of]
    for i, j, count in zip(first.tolist(), second.tolist(), pair_counts[first, second].tolist(), strict=True):
        partners[i][j] = count

    bits = _bit_sets(basket, rank, len(item_of), occurrences.baskets)

    def grow(prefix: Itemset, candidates: Sequence[tuple[int, int, int]]) -> None:
        """Add prefix + (candidate,) for each candidate (rank, baskets as bits, count), and what grows from it."""
        for at, (i, baskets, count) in enumerate(candidates, 1):
            ranks = (*prefix, i)
            itemsets[tuple(sorted(item_of[r] for r in ranks))] = count
            if len(ranks) == max_items:
                continue
            beside = partners[i]
            bigger = [
                (j, both, both_count)
                for j, others, _ in candidates[at:]
                if j in beside and (both_count := (both := baskets & others).bit_count()) >= min_count
            ]
            if bigger:
                grow(ranks, bigger)
        _check(len(itemsets), limit, len(item_of), pairs)

    for i, beside in enumerate(partners):
        if beside:
            grow((i,), [(j, bits[i] & bits[j], count) for j, count in sorted(beside.items())])
    return itemsets


def _check(found: int, limit: int | None, items: int, pairs: int) -> None:
    if limit is not None and found > limit:
        raise TooManyItemsetsError(items, pairs, found)


def _ranked(occurrences: Occurrences, frequent: Integers) -> tuple[Integers, Integers]:
    """The occurrences of the frequent items as (basket, rank in `frequent`), ordered by both."""
    rank_of = np.full(len(occurrences.codes), -1)
    rank_of[frequent] = np.arange(len(frequent))
    rank = rank_of[occurrences.item]
    kept = rank >= 0
    basket, rank = occurrences.basket[kept], rank[kept]
    order = np.lexsort((rank, basket))
    return basket[order], rank[order]


def _pair_counts(basket: Integers, rank: Integers, items: int) -> Integers:
    """Matrix of how many baskets hold both of two ranks; only above the diagonal."""
    ends = np.searchsorted(basket, basket, side="right")
    later = ends - np.arange(len(rank)) - 1  # each occurrence pairs with those that follow it in its basket
    until = np.cumsum(later)
    counts = np.zeros(items * items, dtype=np.int64)
    # One step counts into an array of all pairs, so it had better hold that many.
    at_once = max(_PAIRS_AT_ONCE, len(counts))
    begin = 0
    while begin < len(rank):
        before = until[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(until, before + at_once, side="right")))
        these = later[begin:end]
        step = np.arange(these.sum()) - np.repeat(np.cumsum(these) - these, these)
        other = np.repeat(np.arange(begin, end) + 1, these) + step
        counts += np.bincount(np.repeat(rank[begin:end] * items, these) + rank[other], minlength=len(counts))
        begin = end
    return counts.reshape(items, items)


def _bit_sets(basket: Integers, rank: Integers, items: int, baskets: int) -> list[int]:
    """For each rank the set of its baskets, as an integer."""
    order = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[order], np.arange(items + 1))
    sets = []
    for i in range(items):
        holds = np.zeros(baskets, dtype=np.uint8)
        holds[basket[order[bounds[i] : bounds[i + 1]]]] = 1
        sets.append(int.from_bytes(np.packbits(holds).tobytes(), "big"))
    return sets
