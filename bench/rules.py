"""The association rules by several contenders, on the same baskets.

Each contender runs in its own process: it starts with the baskets in memory and ends with all rules, their measures and
their products' names. Before a time counts, its rules are compared with ours.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
import typer
from pyspark.ml.fpm import FPGrowth
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from batch_rules.measure import Rules, measure
from batch_rules.mine import Engine, Itemsets, min_count, mine
from bench.memory import PeakMemory
from bench.peers.invoice import counts
from bench.results import OURS, Figure, Row
from conf.settings import settings
from jvm.session import spark_session
from producer.csv_invoices import Invoice
from stack.command import Command, CommandError

_MAX_ITEMSETS = 20_000_000
_ENOUGH_SECONDS = 15.0
"""A way that takes longer runs once; the others three times, after a first time that does not count."""
_MOST_RUNS = 4
_INPUTS = ("baskets", "names")
_LAST_BITS = 1e-12
"""More than a quotient of floats is off, less than two fractions of counts of baskets differ."""
LIFT = 1 + _LAST_BITS
"""Above 1, for the measures of ways that work in floats."""


@dataclass(frozen=True)
class Case:
    """One set of baskets and what to find in it; `folder` holds baskets.parquet and names.parquet."""

    name: str
    folder: Path
    baskets: int
    support: Decimal
    confidence: Decimal
    max_items: int | None

    @property
    def title(self) -> str:
        size = f"sets of at most {self.max_items}" if self.max_items else "sets of any size"
        return f"{self.name}, support {self.support}, {size}"


@dataclass
class Found:
    """The rules that a way found, and the seconds of its rule step alone."""

    rules: Rules | pd.DataFrame
    step_seconds: float


def ours(baskets: DataFrame, _names: DataFrame, case: Case, engine: Engine = "eclat") -> Found:
    itemsets = mine(baskets, Fraction(case.support), case.max_items, _MAX_ITEMSETS, engine)
    start = time.perf_counter()
    return Found(measure(itemsets, Fraction(case.confidence)), time.perf_counter() - start)


def by_spark(baskets: DataFrame, names: DataFrame, case: Case) -> Found:
    """FPGrowth and its associationRules, the names by explode and join."""
    count = baskets.count()
    model = FPGrowth(
        itemsCol="items", minSupport=_share(case, count), minConfidence=_confidence(case), numPartitions=1
    ).fit(baskets)
    itemsets = model.freqItemsets.cache()
    itemsets.count()
    start = time.perf_counter()
    rules = model.associationRules.where(F.col("lift") > LIFT)
    if case.max_items is not None:
        rules = rules.where(F.size("antecedent") < case.max_items)
    rules = rules.withColumn("id", F.monotonically_increasing_id()).cache()
    found = with_names(rules, names).toPandas()
    seconds = time.perf_counter() - start
    rules.unpersist()
    itemsets.unpersist()
    return Found(found, seconds)


def with_names(rules: DataFrame, names: DataFrame) -> DataFrame:
    """Spark's rules (id, antecedent, consequent, measures) with antecedent_names and consequent_name."""
    antecedents = (
        rules.select("id", F.explode("antecedent").alias("stock_code"))
        .join(names, "stock_code")
        .groupBy("id")
        .agg(F.collect_list("name").alias("antecedent_names"))
    )
    consequents = names.withColumnsRenamed({"stock_code": "consequent_code", "name": "consequent_name"})
    return (
        rules.withColumn("consequent_code", F.col("consequent")[0])
        .join(antecedents, "id")
        .join(consequents, "consequent_code")
    )


def by_mlxtend(baskets: list[list[str]], case: Case) -> Found:
    """mlxtend's fpgrowth and association_rules on its one-hot frame."""
    from mlxtend.frequent_patterns import association_rules, fpgrowth
    from mlxtend.preprocessing import TransactionEncoder

    encoder = TransactionEncoder()
    frame = pd.DataFrame(encoder.fit_transform(baskets), columns=encoder.columns_)
    itemsets = fpgrowth(frame, min_support=_share(case, len(baskets)), use_colnames=True, max_len=case.max_items)
    start = time.perf_counter()
    rules = association_rules(itemsets, metric="confidence", min_threshold=_confidence(case))
    return Found(_of_one_consequent(rules), time.perf_counter() - start)


def by_rusket(baskets: list[list[str]], case: Case) -> Found:
    """rusket (Rust): FPGrowth.from_transactions, mine, association_rules."""
    import rusket

    model = rusket.FPGrowth.from_transactions(
        baskets, min_support=_share(case, len(baskets)), max_len=case.max_items, use_colnames=True
    )
    model.mine(use_colnames=True)
    start = time.perf_counter()
    rules = model.association_rules(metric="confidence", min_threshold=_confidence(case))
    return Found(_of_one_consequent(rules), time.perf_counter() - start)


def by_pyfim(baskets: list[list[str]], case: Case) -> Found:
    """pyfim's fpgrowth (C), which gives the itemsets, and our rule step."""
    import fim

    fewest = min_count(Fraction(case.support), len(baskets))
    found = fim.fpgrowth(baskets, target="s", supp=-fewest, zmin=1, zmax=case.max_items or -1, report="a")
    codes = sorted({code for items, _ in found for code in items})
    index = {code: i for i, code in enumerate(codes)}
    counts = {tuple(sorted(index[code] for code in items)): count for items, count in found}
    start = time.perf_counter()
    rules = measure(Itemsets(codes, len(baskets), counts, "pyfim"), Fraction(case.confidence))
    return Found(rules, time.perf_counter() - start)


ON_SPARK: dict[str, Callable[[DataFrame, DataFrame, Case], Found]] = {
    OURS: ours,
    f"{OURS}, --engine fpgrowth": lambda baskets, names, case: ours(baskets, names, case, "fpgrowth"),
    "Spark FPGrowth + associationRules": by_spark,
}
IN_PYTHON: dict[str, Callable[[list[list[str]], Case], Found]] = {
    "mlxtend": by_mlxtend,
    "pyfim + our rule step": by_pyfim,
    "rusket": by_rusket,
}


def _share(case: Case, baskets: int) -> float:
    """The support between two counts, so that a float's last bit decides nothing."""
    return (min_count(Fraction(case.support), baskets) - 0.5) / baskets


def _confidence(case: Case) -> float:
    """The confidence a little below itself, for the same reason: a way may reach 45 of 900 by two floating supports."""
    return float(case.confidence) - _LAST_BITS


def _of_one_consequent(rules: pd.DataFrame) -> pd.DataFrame:
    return rules[(rules["consequents"].map(len) == 1) & (rules["lift"] > LIFT)]


def measured(found: Rules | pd.DataFrame) -> pa.Table:
    """One row a rule, by name: rule ("a b > c", the codes in order), support, confidence, lift."""
    if isinstance(found, Rules):
        codes = found.codes
        rules = [
            " ".join([codes[i] for i in antecedent]) + " > " + codes[consequent]
            for antecedent, consequent in zip(found.antecedent, found.consequent.tolist(), strict=True)
        ]
        values = [found.support, found.confidence, found.lift]
    else:
        renamed = found.rename(columns={"antecedents": "antecedent", "consequents": "consequent"})
        rules = [
            " ".join(sorted(antecedent)) + " > " + next(iter(consequent))
            for antecedent, consequent in zip(renamed["antecedent"], renamed["consequent"], strict=True)
        ]
        values = [renamed[column].to_numpy(dtype=float) for column in ("support", "confidence", "lift")]
    table = pa.table({"rule": rules, "support": values[0], "confidence": values[1], "lift": values[2]})
    return table.sort_by("rule")


def differs(found: pa.Table, expected: pa.Table) -> str | None:
    """None if the rules are the same and their measures within 1e-9, else what is not."""
    if not found["rule"].equals(expected["rule"]):
        ours_, theirs = set(expected["rule"].to_pylist()), set(found["rule"].to_pylist())
        return f"{len(theirs - ours_):,} rules too many, {len(ours_ - theirs):,} missing"
    for column in ("support", "confidence", "lift"):
        a, b = found[column].to_numpy(), expected[column].to_numpy()
        worst = float((np.abs(a - b) / np.maximum(1, np.abs(b))).max(initial=0))
        if worst > 1e-9:
            return f"{column} is off by {worst:g}"
    return None


def session() -> SparkSession:
    current = settings().model_copy(update={"spark_driver_memory": "3g"})
    return spark_session("retail-mart bench", current, {"spark.driver.extraJavaOptions": "-Xss16m"})


def prepare(invoices: Iterable[Invoice], folder: Path) -> int:
    """Write the baskets of invoices, worked out in plain Python, and names of their products to baskets.parquet and
    names.parquet; returns the baskets."""
    baskets: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for invoice in invoices:
        counting = {line.stock_code: line.description for line in invoice.lines if counts(line._asdict())}
        names |= counting
        if len(counting) >= 2 and not invoice.number.startswith("C"):
            baskets[invoice.number] = sorted(counting)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"invoice": list(baskets), "items": list(baskets.values())}), folder / "baskets.parquet")
    pq.write_table(pa.table({"stock_code": list(names), "name": list(names.values())}), folder / "names.parquet")
    return len(baskets)


def rules(cases: Sequence[Case], ways: Sequence[str], scratch: Path, patience: float) -> Iterator[Row]:
    """A row a case and way: seconds, step_seconds, rules, runs, peak_mb.

    The first way that ends says what the rules are. One that takes longer than `patience` seconds is stopped.
    """
    for case in cases:
        expected: pa.Table | None = None
        for way in ways:
            row, found = _row(case, way, scratch, patience)
            if found is not None and expected is not None and (difference := differs(found, expected)):
                row = Row(case.title, way, wrong=difference)
            expected = found if expected is None else expected
            yield row


def _row(case: Case, way: str, scratch: Path, patience: float) -> tuple[Row, pa.Table | None]:
    folder = scratch / re.sub(r"\W+", "_", f"{case.title}_{way}")
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(asdict(case), default=str))
    with Command("bench.rules", way, str(folder), log=folder / "log") as process, PeakMemory([process.pid]) as memory:
        try:
            code = process.wait(patience)
        except CommandError:
            code = None
    held: dict[str, Figure] = {"peak_mb": memory.megabytes}
    if code is None:
        return Row(case.title, way, held, f"stopped after {patience:.0f} s, without a rule"), None
    if code:
        last = process.tail().splitlines()[-1:] or [""]
        if "ModuleNotFoundError" in last[0]:
            return Row(case.title, way, note=last[0].replace("ModuleNotFoundError: ", "not installed: ")), None
        return Row(case.title, way, held, f"ended with {code}: {last[0]}"), None
    figures = json.loads((folder / "figures.json").read_text())
    return Row(case.title, way, figures | held), pq.read_table(folder / "rules.parquet")


def main(
    way: Annotated[str, typer.Argument(help="One of the ways' names.")],
    folder: Annotated[Path, typer.Argument(help="Where case.json is, and rules.parquet and figures.json are to be.")],
) -> None:
    """Find the rules of one case by one way, several times; the medians are the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asked: dict[str, Any] = json.loads((folder / "case.json").read_text())
    shares = {name: Decimal(asked[name]) for name in ("support", "confidence")}
    case = Case(**asked | shares | {"folder": Path(asked["folder"])})
    if way in ON_SPARK:
        spark = session()
        baskets, names = (spark.read.parquet(str(case.folder / f"{name}.parquet")).cache() for name in _INPUTS)
        baskets.count()
        names.count()
        work = partial(ON_SPARK[way], baskets, names, case)
    else:
        work = partial(IN_PYTHON[way], pq.read_table(case.folder / "baskets.parquet")["items"].to_pylist(), case)
    runs = pd.DataFrame(columns=["seconds", "step_seconds"], dtype=float)
    while len(runs) < _MOST_RUNS and runs["seconds"].sum() < _ENOUGH_SECONDS:
        start = time.perf_counter()
        found = work()
        runs.loc[len(runs)] = [time.perf_counter() - start, found.step_seconds]
    counted = runs[1:] if len(runs) > 1 else runs
    table = measured(found.rules)
    pq.write_table(table, folder / "rules.parquet")
    figures = counted.median().to_dict() | {"rules": table.num_rows, "runs": len(counted)}
    (folder / "figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    typer.run(main)
