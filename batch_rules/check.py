"""Check: is the published run sound? Its counts, its measures recomputed, its drift from the previous run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812

from batch_rules.errors import RulesError
from batch_rules.publish import rows
from conf.counted import counted


@dataclass(frozen=True)
class Quality:
    """The current run as recorded and as recounted; the fields are the columns of rules/select_quality.

    `before…`, None if there is no run to compare with: the run that was current before, if it had the same window and
    thresholds. `appeared` and `vanished` count rules.
    """

    run_id: int
    business_date: date
    baskets: int
    products: int
    itemsets: int
    rules: int
    counted: int
    wrong_counts: int
    out_of_range: int
    wrong_measures: int
    before_run_id: int | None
    baskets_before: int | None
    rules_before: int | None
    appeared: int
    vanished: int


@dataclass(frozen=True)
class Check:
    """One check of the current run: what was found, and whether that is good."""

    name: str
    found: str
    good: bool


def quality(connection: Connection) -> Quality:
    """Read the current run. Raises RulesError if there is none."""
    found = rows(connection, "select_quality", {})
    if not found:
        raise RulesError("no run is published yet: `retail-mart mine` makes one")
    return Quality(*found[0])


def checks(run: Quality, max_drift: float, business_date: date | None = None) -> list[Check]:
    """All checks of a run, including the failed ones.

    Drift is the share of rules that are in only one of the two runs (1 - Jaccard's index), and the change in the number
    of baskets as a share of the previous run; both at most `max_drift`. `business_date` is the expected date of the run
    (None: any).
    """
    counts = (run.baskets, run.products, run.itemsets, run.rules)
    made = [
        Check(
            "counts",
            ", ".join(
                counted(number, noun)
                for number, noun in zip(counts, ("basket", "product", "itemset", "rule"), strict=True)
            ),
            all(counts),
        ),
        Check("recorded", f"{counted(run.rules, 'rule')} recorded, {run.counted:,} found", run.rules == run.counted),
        _none_of("rule counts", run.wrong_counts, run, "contradict each other or a threshold"),
        _none_of("ranges", run.out_of_range, run, "have a measure out of its range"),
        _none_of("measures", run.wrong_measures, run, "have a measure that does not follow from the counts"),
    ]
    if business_date is not None:
        made.insert(
            0, Check("business date", f"the current run is of {run.business_date}", run.business_date == business_date)
        )
    if run.baskets_before is None or run.rules_before is None:
        made.append(Check("drift", "no earlier run with the same window and thresholds", True))
        return made
    either = run.rules_before + run.appeared
    turnover = (run.appeared + run.vanished) / either if either else 0.0
    change = run.baskets / run.baskets_before - 1
    made += [
        Check(
            "drift of rules",
            f"{run.appeared:,} appeared and {run.vanished:,} vanished since run {run.before_run_id}: "
            f"{turnover:.1%} of all, allowed {max_drift:.0%}",
            turnover <= max_drift,
        ),
        Check(
            "drift of baskets",
            f"{run.baskets:,} after {run.baskets_before:,}: {change:+.1%}, allowed ±{max_drift:.0%}",
            abs(change) <= max_drift,
        ),
    ]
    return made


def _none_of(name: str, wrong: int, run: Quality, what: str) -> Check:
    return Check(name, f"{wrong:,} of {counted(run.counted, 'rule')} {what}", wrong == 0)
