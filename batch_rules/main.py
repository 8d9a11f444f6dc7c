"""The nightly job: lake at one version → baskets → itemsets → rules → the mart, published whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import structlog
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from batch_rules.baskets import baskets_of, canonical_names, counting_lines, invoices_of
from batch_rules.code_version import code_version
from batch_rules.errors import KeptBackError, RulesError
from batch_rules.landed import newest_of, opened
from batch_rules.measure import Rules, measure
from batch_rules.mine import DRIVER_OCCURRENCES, Engine, Itemsets, mine, mine_by_eclat
from batch_rules.publish import APPLICATION, Run, publish, record_kept_back
from batch_rules.sold import conflicting_in, sold_in
from conf.lake_storage import spark_location, spark_options
from conf.settings import Settings
from jvm.jars import s3_jars
from jvm.session import spark_session
from mart.session import session

log = structlog.get_logger()

# FPGrowth writes and reads its tree by recursion, which overflows the usual stack of a thread.
_DEEP_STACK = {"spark.driver.extraJavaOptions": "-Xss16m", "spark.executor.extraJavaOptions": "-Xss16m"}


@dataclass(frozen=True)
class RunOptions:
    """What to mine, and which rules count.

    The window is the `window_days` business dates up to and including `business_date`. Shares are exact decimals:
    `support` of the baskets, `confidence` of the antecedent's baskets. `max_items` limits a rule's items, both sides
    together (None: any number). Guards: at most `max_itemsets`; at most `max_drop` (a share) fewer rules than the
    current run. `lake_version` None is the newest.
    """

    business_date: date
    window_days: int = 90
    support: Decimal = Decimal("0.005")
    confidence: Decimal = Decimal("0.05")
    max_items: int | None = None
    max_itemsets: int = 1_000_000
    max_drop: float = 0.5
    engine: Engine = "auto"
    lake_version: int | None = None


@dataclass(frozen=True)
class Published:
    """A run that is now the current one."""

    run_id: int
    run: Run


def run(settings: Settings, options: RunOptions) -> Published:
    """Compute the rules and publish them; Spark is started only if its FPGrowth has to mine.

    Raises KeptBackError, with the run recorded as kept back and the current one untouched, if a guard refuses;
    UnavailableError if PostgreSQL or the lake's storage is unavailable; RulesError if an operator must act otherwise.
    """
    with ExitStack() as at_the_end:

        def started() -> SparkSession:
            with _phase({}, "start spark"):
                jars = s3_jars() if settings.lake.startswith("s3:") else ()
                options_of_s3 = spark_options(settings.lake)
                spark = spark_session("retail-mart rules", settings, _DEEP_STACK | options_of_s3, jars)
            at_the_end.callback(spark.stop)
            return spark

        return _run(started, settings, options)


def run_in(spark: SparkSession, settings: Settings, options: RunOptions) -> Published:
    """As `run`, in a running session (which must have been started with -Xss16m)."""
    return _run(lambda: spark, settings, options)


def _run(spark: Callable[[], SparkSession], settings: Settings, options: RunOptions) -> Published:
    # Before the work: if it is unavailable, say so at once.
    with session(settings.require_mart(), APPLICATION) as connection:
        seconds: dict[str, float] = {}
        with _phase(seconds, "open lake"):
            planned = plan(settings.lake, options)
        planned.seconds.update(seconds)
        try:
            _check_window(planned)
            rules, names = find_rules(spark, planned, options, settings.scratch)
            with _phase({}, "publish"):
                run_id = publish(connection, planned, rules, names, settings.rule_runs_kept)
        except KeptBackError as error:
            kept_back = record_kept_back(connection, planned, str(error))
            log.error("kept back", run=kept_back)
            raise
    log.info("published", run=run_id, baskets=planned.baskets, itemsets=planned.itemsets, rules=planned.rules)
    return Published(run_id, planned)


def plan(lake: str, options: RunOptions) -> Run:
    """The run as it will be recorded, with the lake's version pinned. Raises RulesError without a lake, and
    UnavailableError."""
    started = datetime.now(UTC)
    version = opened(lake).version() if options.lake_version is None else options.lake_version
    return Run(
        business_date=options.business_date,
        window_days=options.window_days,
        min_support=options.support,
        min_confidence=options.confidence,
        max_items=options.max_items,
        lake=lake,
        lake_version=version,
        started_at=started,
        code_version=code_version(),
        max_drop=options.max_drop,
    )


def _check_window(planned: Run) -> None:
    """Raise KeptBackError if the lake ends before the window begins: a replay of old files, or a stalled stream."""
    newest, after = newest_of(opened(planned.lake, planned.lake_version)), _after(planned)
    if newest is not None and newest <= after:
        raise KeptBackError(
            f"the lake ends on {newest}, before the window of {after + timedelta(days=1)} to {planned.business_date} "
            "begins: add `--business-date newest` to mine the newest days that it has"
        )


def find_rules(
    spark: Callable[[], SparkSession], planned: Run, options: RunOptions, spill_to: Path
) -> tuple[Rules, dict[str, str]]:
    """The rules of a planned run and the names of all products of its window; fills in the run's counts and times.

    Spark is used if its FPGrowth mines: with that engine, or if the baskets are too many for this process. Raises
    KeptBackError if a guard refuses.
    """
    found = None if options.engine == "fpgrowth" else _here(planned, options, spill_to)
    itemsets, names = found or _by_spark(spark(), planned, options)
    planned.baskets, planned.itemsets = itemsets.baskets, len(itemsets.counts)
    planned.engine = itemsets.engine
    with _phase(planned.seconds, "conflicts"):
        lake = opened(planned.lake, planned.lake_version)
        planned.conflicting = conflicting_in(lake, _after(planned), planned.business_date, spill_to)
    with _phase(planned.seconds, "measure"):
        rules = measure(itemsets, Fraction(options.confidence))
        planned.rules = len(rules)
    return rules, names


def _here(planned: Run, options: RunOptions, spill_to: Path) -> tuple[Itemsets, dict[str, str]] | None:
    """Itemsets and names, read and mined in this process; None if that is too much for the engine `auto`."""
    with ExitStack() as at_the_end:
        with _phase(planned.seconds, "read"):
            lake = opened(planned.lake, planned.lake_version)
            sold = at_the_end.enter_context(sold_in(lake, _after(planned), planned.business_date, spill_to))
            planned.invoices = sold.invoices
        with _phase(planned.seconds, "name"):
            names = sold.names()
            planned.products = len(names)
        with _phase(planned.seconds, "mine"):
            if options.engine == "auto" and sold.occurrences() > DRIVER_OCCURRENCES:
                return None
            itemsets = mine_by_eclat(
                sold.baskets(), Fraction(options.support), options.max_items, options.max_itemsets, options.engine
            )
    return (itemsets, names) if itemsets else None


def _by_spark(spark: SparkSession, planned: Run, options: RunOptions) -> tuple[Itemsets, dict[str, str]]:
    with _phase(planned.seconds, "read"):
        lake = _at_version(spark, planned)
        lines = counting_lines(invoices_of(lake, _after(planned), planned.business_date)).cache()
        baskets = baskets_of(lines).cache()
        planned.invoices = lines.select("invoice").distinct().count()
    try:
        with _phase(planned.seconds, "name"):
            names = dict(zip(*canonical_names(lines).toArrow().to_pydict().values(), strict=True))
            planned.products = len(names)
        with _phase(planned.seconds, "mine"):
            itemsets = mine(baskets, Fraction(options.support), options.max_items, options.max_itemsets, "fpgrowth")
    finally:
        baskets.unpersist()
        lines.unpersist()
    return itemsets, names


def _after(planned: Run) -> date:
    return planned.business_date - timedelta(days=planned.window_days)


def _at_version(spark: SparkSession, planned: Run) -> DataFrame:
    try:
        return spark.read.format("delta").option("versionAsOf", planned.lake_version).load(spark_location(planned.lake))
    except AnalysisException as error:
        raise RulesError(
            f"the lake at {planned.lake} cannot be read at version {planned.lake_version}: {str(error).splitlines()[0]}"
        ) from None


@contextmanager
def _phase(seconds: dict[str, float], name: str) -> Iterator[None]:
    log.info("phase", phase=name)
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)
    log.info("phase done", phase=name, seconds=round(seconds[name], 2))
