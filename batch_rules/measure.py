"""Measure: frequent itemsets → association rules with their measures, by looking up both sides of each rule.

Spark's own associationRules does this with two joins, through shuffles; the itemsets are in the driver anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from batch_rules.eclat import Integers, Itemset
from batch_rules.mine import Itemsets

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """One element a rule, "baskets with all of the antecedent hold the consequent too"; by lift, the highest first.

    Counts are baskets: `together` with both sides. With shares P of `baskets`, A the antecedent, C the consequent:

    - support = P(A and C); confidence = P(C | A); lift = confidence / P(C);
    - leverage = support - P(A) P(C);
    - conviction = (1 - P(C)) / (1 - confidence), not a number (NULL in the mart) where the confidence is 1, for
      it is infinite there;
    - zhang = leverage / max(support (1 - P(A)), P(A) (P(C) - support)), from -1 to 1.
    """

    codes: list[str]
    baskets: int
    antecedent: list[Itemset]
    consequent: Integers
    together: Integers
    antecedent_count: Integers
    consequent_count: Integers
    support: Floats
    confidence: Floats
    lift: Floats
    leverage: Floats
    conviction: Floats
    zhang: Floats

    def __len__(self) -> int:
        return len(self.antecedent)


def measure(itemsets: Itemsets, confidence: Fraction) -> Rules:
    """The rules with one consequent, at least the confidence, and a lift above 1.

    The thresholds are decided in whole numbers: together ≥ confidence x antecedent_count, and
    together x baskets > antecedent_count x consequent_count.
    """
    counts = itemsets.counts
    antecedents: list[Itemset] = []
    sides: list[tuple[int, int, int, int]] = []
    for items, count in sorted(counts.items()):  # so that the same baskets give the same order, also of ties
        if len(items) < 2:
            continue
        for at, item in enumerate(items):
            antecedent = items[:at] + items[at + 1 :]
            antecedents.append(antecedent)
            sides.append((item, count, counts[antecedent], counts[(item,)]))
    table = np.array(sides, dtype=np.int64).reshape(-1, 4)
    consequent, together, of_a, of_c = table.T
    n = itemsets.baskets
    kept = (together * confidence.denominator >= confidence.numerator * of_a) & (together * n > of_a * of_c)
    places = np.flatnonzero(kept)
    lift = together * n / (of_a * of_c)
    order = places[np.lexsort((-together[places], -lift[places]))]
    consequent, together, of_a, of_c = table[order].T
    above_chance = together * n - of_a * of_c
    with np.errstate(divide="ignore"):
        conviction = np.where(of_a == together, np.nan, (n - of_c) * of_a / (n * (of_a - together)))
    return Rules(
        codes=itemsets.codes,
        baskets=n,
        antecedent=[antecedents[i] for i in order.tolist()],
        consequent=consequent,
        together=together,
        antecedent_count=of_a,
        consequent_count=of_c,
        support=together / n,
        confidence=together / of_a,
        lift=together * n / (of_a * of_c),
        leverage=above_chance / n**2,
        conviction=conviction,
        zhang=above_chance / np.maximum(together * (n - of_a), of_a * (of_c - together)),
    )
