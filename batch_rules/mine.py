"""Mine: baskets → frequent itemsets, with Spark's FPGrowth or, if the baskets fit into the driver, with Eclat.

Both find the same sets. FPGrowth scales over executors, at a price: it builds one tree of objects, whose size Spark
estimates repeatedly while it grows, and ships it through a shuffle (the estimates walk the whole tree, about eleven
times in all). On a year of UCI Online Retail that is 9 s against 0.6 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import pyarrow as pa
from pyspark.ml.fpm import FPGrowth
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from batch_rules.eclat import Itemset, Occurrences, TooManyItemsetsError, frequent_itemsets
from batch_rules.errors import KeptBackError
from conf.counted import counted

Engine = Literal["auto", "eclat", "fpgrowth"]
# What the driver takes: a year of UCI has half a million occurrences, a matrix of pairs is items² x 8 bytes.
DRIVER_OCCURRENCES = 10_000_000
DRIVER_ITEMS = 4_000
SAMPLE_BASKETS = 20_000
NO_BASKETS = "no baskets: no invoice of the window holds 2 distinct products that count"
_FPGROWTH_PARTITIONS = 1


@dataclass(frozen=True)
class Itemsets:
    """The frequent itemsets of `baskets` baskets, each a tuple of ascending indices into `codes`, with its count."""

    codes: list[str]
    baskets: int
    counts: dict[Itemset, int]
    engine: str


def min_count(support: Fraction, baskets: int) -> int:
    """The smallest number of baskets that reaches a share of all baskets, exactly: support x baskets, rounded up; at
    least 1.

    The same as in FPGrowth, but in integers: 0.07 x 100 is 7, whereas floats make it 7.000000000000001 and so 8.
    """
    return max(1, math.ceil(support * baskets))


def mine(
    baskets: DataFrame, support: Fraction, max_items: int | None, max_itemsets: int, engine: Engine = "auto"
) -> Itemsets:
    """The itemsets with at least the support, of at most max_items items (None: any size).

    `baskets` has a column `items` (distinct stock codes); it is read several times, so it should be cached. Raises
    KeptBackError if there are no baskets, or, with a support that would work, if more than max_itemsets sets would be
    found. `auto` means Eclat up to DRIVER_OCCURRENCES and DRIVER_ITEMS.
    """
    size = baskets.agg(F.count("*").alias("baskets"), F.sum(F.size("items")).alias("occurrences")).first()
    if size is None or not size["baskets"]:
        raise KeptBackError(NO_BASKETS)
    if engine != "fpgrowth" and not (engine == "auto" and size["occurrences"] > DRIVER_OCCURRENCES):
        items = baskets.select("items").toArrow()["items"]
        if found := mine_by_eclat(items, support, max_items, max_itemsets, engine):
            return found
    return mine_by_fpgrowth(baskets, size["baskets"], support, max_items, max_itemsets)


def mine_by_eclat(
    baskets: pa.ChunkedArray, support: Fraction, max_items: int | None, max_itemsets: int, engine: Engine = "auto"
) -> Itemsets | None:
    """As `mine`, with Eclat, from lists of distinct stock codes; with `auto`, None if more than DRIVER_ITEMS products
    are frequent."""
    if not len(baskets):
        raise KeptBackError(NO_BASKETS)
    occurrences = Occurrences.of(baskets)
    if engine == "auto" and _frequent_items(occurrences, support) > DRIVER_ITEMS:
        return None
    counts = guarded(occurrences, support, max_items, max_itemsets)
    return Itemsets(occurrences.codes, occurrences.baskets, counts, "eclat")


def mine_by_fpgrowth(
    baskets: DataFrame, count: int, support: Fraction, max_items: int | None, max_itemsets: int
) -> Itemsets:
    """As `mine`, with pyspark.ml's FPGrowth, which examines sets of any size and then drops those above max_items.

    The guard first examines a sample of SAMPLE_BASKETS. The JVMs of driver and executors must have been started with
    -Xss16m: FPGrowth writes and reads its tree recursively.
    """
    sample = baskets
    if count > SAMPLE_BASKETS:  # by a hash, so that the same baskets give the same answer
        sample = baskets.where(F.pmod(F.xxhash64("invoice"), F.lit(count)) < SAMPLE_BASKETS)
    guarded(Occurrences.of(sample.select("items").toArrow()["items"]), support, max_items, max_itemsets)

    # Between two counts, so that FPGrowth's ceil(minSupport x baskets) cannot be off by a float's last bit.
    share = (min_count(support, count) - 0.5) / count
    model = FPGrowth(itemsCol="items", minSupport=share, numPartitions=_FPGROWTH_PARTITIONS).fit(baskets)
    found = model.freqItemsets
    if max_items is not None:
        found = found.where(F.size("items") <= max_items)
    table = found.toArrow()  # once: each action on it would mine again
    return _itemsets(table["items"].combine_chunks(), table["freq"].to_numpy(), count)


def guarded(
    occurrences: Occurrences, support: Fraction, max_items: int | None, max_itemsets: int
) -> dict[Itemset, int]:
    """The itemsets by Eclat. Raises KeptBackError, with advice, once more than max_itemsets are certain."""
    fewest = min_count(support, occurrences.baskets)
    try:
        return frequent_itemsets(occurrences, fewest, max_items, max_itemsets)
    except TooManyItemsetsError as error:
        raise KeptBackError(
            f"support {float(support):g} ({fewest:,} of {counted(occurrences.baskets, 'basket')}) is too low: "
            f"{counted(error.items, 'product')} and {counted(error.pairs, 'pair')} reach it, and more than "
            f"{counted(max_itemsets, 'itemset')}; " + _advice(occurrences, support, max_items, max_itemsets)
        ) from None


def _advice(occurrences: Occurrences, support: Fraction, max_items: int | None, max_itemsets: int) -> str:
    higher = support
    while (higher := higher * 2) < 1:
        try:
            found = frequent_itemsets(occurrences, min_count(higher, occurrences.baskets), max_items, max_itemsets)
        except TooManyItemsetsError:
            continue
        return (
            f"--support {float(higher):g} would give {len(found):,}; or limit the sets' size with --max-items, "
            "or raise --max-itemsets"
        )
    return "limit the sets' size with --max-items, or raise --max-itemsets"


def _frequent_items(occurrences: Occurrences, support: Fraction) -> int:
    return int(np.count_nonzero(occurrences.item_counts() >= min_count(support, occurrences.baskets)))


def _itemsets(lists: pa.ListArray, counts: np.ndarray, baskets: int) -> Itemsets:
    found = lists.to_pylist()
    codes = sorted({code for codes in found for code in codes})
    index = {code: i for i, code in enumerate(codes)}
    sets = {
        tuple(sorted(index[code] for code in items)): count for items, count in zip(found, counts.tolist(), strict=True)
    }
    return Itemsets(codes, baskets, sets, "fpgrowth")
