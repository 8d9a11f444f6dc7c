"""How cost grows: ours alone, by support of the rules."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pyarrow.parquet as pq

from batch_rules.eclat import Occurrences
from batch_rules.errors import KeptBackError
from batch_rules.measure import measure
from batch_rules.mine import Itemsets, guarded
from bench.results import OURS, Row
from bench.rules import Case


def by_support(case: Case, supports: Sequence[Decimal], max_itemsets: int = 1_000_000) -> Iterator[Row]:
    """A row a support: itemsets, rules, mine_seconds, measure_seconds, of the same baskets; the refusal where the guard
    refuses."""
    occurrences = Occurrences.of(pq.read_table(case.folder / "baskets.parquet")["items"])
    for support in supports:
        title = replace(case, support=support).title
        start = time.perf_counter()
        try:
            counts = guarded(occurrences, Fraction(support), case.max_items, max_itemsets)
        except KeptBackError as error:
            yield Row(title, OURS, {"refused_seconds": time.perf_counter() - start}, str(error))
            continue
        mined = time.perf_counter()
        found = measure(Itemsets(occurrences.codes, occurrences.baskets, counts, "eclat"), Fraction(case.confidence))
        figures = {
            "itemsets": len(counts),
            "rules": len(found),
            "mine_seconds": mined - start,
            "measure_seconds": time.perf_counter() - mined,
        }
        yield Row(title, OURS, figures)
