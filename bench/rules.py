"""Benchmark of the nightly rules beside the usual ways to the same rules, on UCI Online Retail and a made-up shop.

Each way begins with the same baskets in memory and ends with all rules, their measures and their products' names;
before a time counts, its rules are compared with ours.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import structlog
import typer
from pyspark.ml.fpm import FPGrowth
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from rich.console import Console
from rich.table import Table

from batch_rules.baskets import baskets_of, canonical_names, counting_lines, invoices_of
from batch_rules.main import RunOptions, find_rules, plan
from batch_rules.measure import Rules, measure
from batch_rules.mine import Engine, Itemsets, min_count, mine
from bench.lake import csv_invoices, landed, write_lake
from conf.settings import settings
from jvm.session import spark_session
from producer.generate import Options, generate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)

SUPPORT, CONFIDENCE = Decimal("0.005"), Decimal("0.05")
Measured = dict[tuple[tuple[str, ...], str], tuple[float, float, float]]
"""(antecedent's codes, consequent's code) → (support, confidence, lift)."""


def ours(baskets: DataFrame, max_items: int | None, engine: Engine) -> tuple[Rules, float]:
    """The rules and the seconds of the rule step."""
    itemsets = mine(baskets, Fraction(SUPPORT), max_items, 5_000_000, engine)
    start = time.perf_counter()
    rules = measure(itemsets, Fraction(CONFIDENCE))
    return rules, time.perf_counter() - start


def by_spark(baskets: DataFrame, names: DataFrame, max_items: int | None) -> tuple[pd.DataFrame, float]:
    """FPGrowth and its associationRules, the names by explode and join; and the seconds after the itemsets."""
    count = baskets.count()
    share = (min_count(Fraction(SUPPORT), count) - 0.5) / count
    model = FPGrowth(itemsCol="items", minSupport=share, minConfidence=float(CONFIDENCE), numPartitions=1).fit(baskets)
    itemsets = model.freqItemsets.cache()
    itemsets.count()
    start = time.perf_counter()
    rules = model.associationRules.where("lift > 1")
    if max_items is not None:
        rules = rules.where(F.size("antecedent") < max_items)
    rules = rules.withColumn("id", F.monotonically_increasing_id()).cache()
    named = (
        rules.select("id", F.explode("antecedent").alias("stock_code"))
        .join(names, "stock_code")
        .groupBy("id")
        .agg(F.collect_list("name").alias("antecedent_names"))
    )
    consequents = names.withColumnsRenamed({"stock_code": "consequent_code", "name": "consequent_name"})
    found = (
        rules.withColumn("consequent_code", F.col("consequent")[0])
        .join(named, "id")
        .join(consequents, "consequent_code")
        .toPandas()
    )
    seconds = time.perf_counter() - start
    rules.unpersist()
    itemsets.unpersist()
    return found, seconds


def by_mlxtend(baskets: list[list[str]], max_items: int | None) -> tuple[pd.DataFrame, float]:
    """mlxtend's fpgrowth and association_rules on its one-hot frame."""
    from mlxtend.frequent_patterns import association_rules, fpgrowth
    from mlxtend.preprocessing import TransactionEncoder

    encoder = TransactionEncoder()
    frame = pd.DataFrame(encoder.fit_transform(baskets), columns=encoder.columns_)
    itemsets = fpgrowth(frame, min_support=float(SUPPORT), use_colnames=True, max_len=max_items)
    start = time.perf_counter()
    rules = association_rules(itemsets, metric="confidence", min_threshold=float(CONFIDENCE))
    rules = rules[(rules["consequents"].str.len() == 1) & (rules["lift"] > 1)]
    return rules, time.perf_counter() - start


def by_pyfim(baskets: list[list[str]], max_items: int | None) -> tuple[Rules, float]:
    """pyfim's fpgrowth (C), which gives the itemsets, and our rule step."""
    import fim

    fewest = min_count(Fraction(SUPPORT), len(baskets))
    found = fim.fpgrowth(baskets, target="s", supp=-fewest, zmin=1, zmax=max_items or -1, report="a")
    codes = sorted({code for items, _ in found for code in items})
    index = {code: i for i, code in enumerate(codes)}
    counts = {tuple(sorted(index[code] for code in items)): count for items, count in found}
    start = time.perf_counter()
    rules = measure(Itemsets(codes, len(baskets), counts, "pyfim"), Fraction(CONFIDENCE))
    return rules, time.perf_counter() - start


def measured(found: Rules | pd.DataFrame) -> Measured:
    if isinstance(found, Rules):
        sides = (
            (tuple(found.codes[i] for i in antecedent), found.codes[consequent])
            for antecedent, consequent in zip(found.antecedent, found.consequent.tolist(), strict=True)
        )
        values = zip(found.support.tolist(), found.confidence.tolist(), found.lift.tolist(), strict=True)
        return dict(zip(sides, values, strict=True))
    renamed = found.rename(columns={"antecedents": "antecedent", "consequents": "consequent"})
    return {
        (tuple(sorted(row["antecedent"])), next(iter(row["consequent"]))): (
            row["support"],
            row["confidence"],
            row["lift"],
        )
        for row in renamed.to_dict("records")
    }


def differs(found: Measured, expected: Measured) -> str | None:
    """None if the rules are the same and their measures within 1e-9, else what is not."""
    if found.keys() != expected.keys():
        return f"{len(found.keys() - expected.keys())} rules too many, {len(expected.keys() - found.keys())} missing"
    keys = list(expected)
    a, b = (np.array([rules[key] for key in keys]).reshape(-1, 3) for rules in (found, expected))
    worst = float((np.abs(a - b) / np.maximum(1, np.abs(b))).max(initial=0))
    return None if worst <= 1e-9 else f"a measure is off by {worst:g}"


def timed(work: Callable[[], tuple[Any, float]], rounds: int) -> tuple[Any, float, float]:
    """The result, and the medians of the seconds in all and of the rule step."""
    whole, step = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        result, seconds = work()
        whole.append(time.perf_counter() - start)
        step.append(seconds)
    return result, statistics.median(whole), statistics.median(step)


def session() -> SparkSession:
    current = settings().model_copy(update={"spark_driver_memory": "2g"})
    return spark_session("retail-mart bench", current, {"spark.driver.extraJavaOptions": "-Xss16m"})


def whole_run(spark: SparkSession, lake: str, until: date, days: int, max_items: int | None, engine: Engine) -> Rules:
    """From the lake to the rules with names, as the nightly job does it."""
    options = RunOptions(until, days, SUPPORT, CONFIDENCE, max_items, 5_000_000, engine=engine)
    return find_rules(spark, plan(spark, lake, options), options)[0]


def compare(spark: SparkSession, name: str, lake: str, until: date, days: int, max_items: int | None) -> None:
    """Print the table of one data set, ways that are not installed left out."""
    lines = counting_lines(
        invoices_of(spark.read.format("delta").load(lake), until - timedelta(days=days), until)
    ).cache()
    baskets = baskets_of(lines).cache()
    names = canonical_names(lines).cache()
    in_memory = baskets.select("items").toArrow()["items"].to_pylist()
    names.count()
    ways: dict[str, tuple[Callable[[], tuple[Any, float]], int]] = {
        "ours": (lambda: ours(baskets, max_items, "eclat"), 5),
        "ours, --engine fpgrowth": (lambda: ours(baskets, max_items, "fpgrowth"), 1),
        "Spark FPGrowth + associationRules": (lambda: by_spark(baskets, names, max_items), 1),
        "mlxtend fpgrowth + association_rules": (lambda: by_mlxtend(in_memory, max_items), 1),
        "pyfim fpgrowth + our rule step": (lambda: by_pyfim(in_memory, max_items), 3),
    }
    table = Table("way", "baskets → rules, s", "rule step, s", "times ours", "rule step, times ours", "rules", "same")
    for column in table.columns[1:6]:
        column.justify = "right"
    expected: Measured | None = None
    base, base_step = 0.0, 0.0
    for way, (work, rounds) in ways.items():
        try:
            work()  # warm: the same once before
            found, seconds, step = timed(work, rounds)
        except ImportError as error:
            table.add_row(way, f"not installed ({error.name})")
            continue
        rules = measured(found)
        if expected is None:
            expected, base, base_step = rules, seconds, step
        wrong = differs(rules, expected)
        table.add_row(
            way,
            "-" if wrong else f"{seconds:.2f}",
            "-" if wrong else f"{step:.3f}",
            "-" if wrong else f"{seconds / base:.1f}",
            "-" if wrong else f"{step / base_step:.1f}",
            f"{len(rules):,}",
            wrong or "yes",
        )
    whole = []
    for _ in range(4):
        start = time.perf_counter()
        whole_run(spark, lake, until, days, max_items, "auto")
        whole.append(time.perf_counter() - start)
    for cached in (names, baskets, lines):
        cached.unpersist()
    table.title = f"{name}: {len(in_memory):,} baskets, support {SUPPORT}, confidence {CONFIDENCE}, " + (
        f"at most {max_items} items" if max_items else "any number of items"
    )
    console.print(table)
    console.print(f"lake → baskets and names → rules, ours, warm: {statistics.median(whole[1:]):.2f} s")


@app.command()
def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder of UCI Online Retail by day; left out if not given or absent.")
    ] = None,
    lines: Annotated[int, typer.Option(min=1_000, help="Lines of the made-up shop.")] = 1_000_000,
    max_items: Annotated[int | None, typer.Option(min=2, help="Most items of a rule. [default: any number]")] = None,
    cold: Annotated[bool, typer.Option(help="Also whole processes from their start, ours and Spark's way.")] = True,
    once: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Ours beside Spark's FPGrowth + associationRules, mlxtend and pyfim, on the same baskets."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if once:  # a cold process: way, lake, until, days
        way, lake, until, days = once.split("|")
        spark = session()
        if way == "ours":
            whole_run(spark, lake, date.fromisoformat(until), int(days), max_items, "auto")
            return
        newest = date.fromisoformat(until)
        chosen = counting_lines(
            invoices_of(spark.read.format("delta").load(lake), newest - timedelta(days=int(days)), newest)
        ).cache()
        by_spark(baskets_of(chosen).cache(), canonical_names(chosen), max_items)
        return
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, Path] = {}
        if data is not None and data.is_dir():
            sources["UCI Online Retail"] = data
        sources[f"made-up shop, {lines:,} lines"] = Path(folder, "shop")
        generate(Options(output=Path(folder, "shop"), lines=lines))
        spark = session()
        lakes = {}
        for number, (name, source) in enumerate(sources.items()):
            rows = landed(csv_invoices([source]))
            dates = rows["business_date"].to_pylist()
            lakes[name] = (str(Path(folder, f"lake{number}")), max(dates), (max(dates) - min(dates)).days + 1)
            write_lake(spark, rows, lakes[name][0])
            del rows, dates
        for name, (lake, until, days) in lakes.items():
            compare(spark, name, lake, until, days, max_items)
        spark.stop()
        if cold:
            for name, (lake, until, days) in lakes.items():
                for way in ("ours", "spark"):
                    more = [] if max_items is None else ["--max-items", str(max_items)]
                    start = time.perf_counter()
                    subprocess.run(
                        [sys.executable, "-m", "bench.rules", "--once", f"{way}|{lake}|{until}|{days}", *more],
                        check=True,
                        stderr=subprocess.DEVNULL,
                    )
                    label = {"ours": "ours", "spark": "Spark FPGrowth + associationRules"}[way]
                    console.print(f"{name}, cold process, lake → rules: {label} {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    app(prog_name="python -m bench.rules")
