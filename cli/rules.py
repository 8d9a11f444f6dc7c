"""Rules: lake → baskets → frequent itemsets → rules → PostgreSQL, by versions, each night."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from batch_rules.errors import QualityError
from cli.console import configured, console
from conf.counted import counted
from conf.terminal import Table, number, prose

if TYPE_CHECKING:
    from batch_rules.check import Check
    from conf.settings import Settings

app = typer.Typer()
_MOST_DECIMALS = 6
_NEWEST = "newest"


class EngineName(StrEnum):
    auto = "auto"
    eclat = "eclat"
    fpgrowth = "fpgrowth"


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date: give it as YYYY-MM-DD, such as 2026-01-31") from None


def _date_or_newest(text: str) -> date | str:
    return _NEWEST if text == _NEWEST else _date(text)


def _named(business_date: date | str | None, current: Settings) -> date | None:
    """The business date that was given. Raises RulesError, UnavailableError if the lake cannot say its newest one."""
    from batch_rules.landed import newest_business_date

    return newest_business_date(current.lake) if isinstance(business_date, str) else business_date


def _yesterday() -> date:
    """The business date that ended last, in the shop's zone."""
    from conf.settings import settings

    return datetime.now(settings().zone).date() - timedelta(days=1)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})(s|m|h)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time: give it as 30s, 10m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _days(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,4})d?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a number of days: give it as 90d")
    return int(match[1])


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 <= share <= 1 or -int(share.as_tuple().exponent) > _MOST_DECIMALS:
        raise typer.BadParameter(f"{text!r} is not a share: give a number from 0 to 1, at most 6 decimals, like 0.005")
    return share


def _positive_share(text: str) -> Decimal:
    share = _share(text)
    if not share:
        raise typer.BadParameter("0 would make every itemset frequent: give a share above 0, such as 0.005")
    return share


@app.command()
def mine(
    business_date: Annotated[
        Any,
        typer.Option(
            parser=_date_or_newest,
            metavar="DATE",
            help="Last business date of the window: YYYY-MM-DD, or `newest`, the last one in the lake (for replays).",
            show_default="yesterday in the shop's time zone",
        ),
    ] = None,
    window: Annotated[
        int, typer.Option(parser=_days, metavar="DAYS", help="Business dates in the window, such as 90d.")
    ] = "90d",  # type: ignore[assignment]
    support: Annotated[
        Decimal,
        typer.Option(
            parser=_positive_share, metavar="SHARE", help="Minimum share of the baskets; the count is rounded up."
        ),
    ] = "0.005",  # type: ignore[assignment]
    confidence: Annotated[
        Decimal, typer.Option(parser=_share, metavar="SHARE", help="Minimum confidence of a rule.")
    ] = "0.05",  # type: ignore[assignment]
    max_items: Annotated[
        int,
        typer.Option(
            min=2,
            help="Maximum number of items in a rule, both sides together; the number of itemsets grows fast with it.",
        ),
    ] = 3,
    max_itemsets: Annotated[
        int, typer.Option(min=1, help="Keep the run back if more itemsets than this are frequent.")
    ] = 1_000_000,
    max_drop: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Keep the run back if it has fewer rules than the current one by more than this share."
        ),
    ] = 0.5,
    engine: Annotated[
        EngineName, typer.Option(help="fpgrowth scales over executors; eclat is faster where it fits into one process.")
    ] = EngineName.auto,
    lake_version: Annotated[
        int | None, typer.Option(min=0, help="Version of the lake to read.", show_default="the newest")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Show N of the new rules.")] = 10,
) -> None:
    """Recompute the rules and publish them, whole or not at all.

    Exit codes: 0 published, 1 operator action required, 2 usage, 3 kept back by a guard (the rules of the
    last good run are still the current ones), 4 PostgreSQL or the lake's storage is unavailable.
    """
    current = configured()  # before pyspark, which takes a second to import: a wrong setting is told at once
    from batch_rules.main import RunOptions
    from batch_rules.main import run as run_job

    options = RunOptions(
        business_date=_named(business_date, current) or _yesterday(),
        window_days=window,
        support=support,
        confidence=confidence,
        max_items=max_items,
        max_itemsets=max_itemsets,
        max_drop=max_drop,
        engine=engine.value,
        lake_version=lake_version,
    )
    published = run_job(current, options)
    done = published.run
    console.print(
        f"run {published.run_id}: {counted(done.rules or 0, 'rule')} from {counted(done.itemsets or 0, 'itemset')} of "
        f"{counted(done.baskets or 0, 'basket')} ({counted(done.products or 0, 'product')}, {done.engine}), lake "
        f"version {done.lake_version}"
    )
    if done.conflicting:
        console.print(
            f"{counted(done.conflicting, 'invoice')} of the window with copies of other content in the lake: the "
            "earliest copy counts here, in the mart the one applied first (`retail-mart rejected list`)"
        )
    _show_top(top)


@app.command()
def landed(
    business_date: Annotated[
        Any,
        typer.Option(
            parser=_date_or_newest,
            metavar="DATE",
            help="Business date: YYYY-MM-DD, or `newest`, the last one in the lake.",
            show_default="yesterday in the shop's time zone",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(parser=_seconds, metavar="TIME", help="Keep looking for this long: 30s, 10m, 1h.")
    ] = "0s",  # type: ignore[assignment]
    allow_empty: Annotated[bool, typer.Option(help="Accept a day without invoices: the shop was closed.")] = False,
) -> None:
    """Check that a business date has fully landed: its distinct invoices in the lake against those of the mart.

    Exit codes: 0 the same, 1 operator action required, 2 usage, 4 PostgreSQL or the lake's storage
    is unavailable, 5 not yet.
    """
    from batch_rules.landed import wait_until_landed

    current = configured()
    day = _named(business_date, current) or _yesterday()
    found = wait_until_landed(current, day, wait, allow_empty, console.print)
    console.print(f"{found}: landed")


@app.command()
def check(
    business_date: Annotated[
        Any,
        typer.Option(
            parser=_date_or_newest,
            metavar="DATE",
            help="The run must be of this date: YYYY-MM-DD, or `newest`, the last one in the lake.",
            show_default="any",
        ),
    ] = None,
    max_drift: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Most change against the run before, as a share: of the rules, and of the baskets."
        ),
    ] = 0.5,
) -> None:
    """Check the current run: its counts, its measures worked out again, its drift against the run before.

    Exit codes: 0 sound, 1 operator action required, 3 not sound (`rollback` brings an earlier run back),
    4 PostgreSQL is unavailable.
    """
    from batch_rules.check import checks, quality
    from batch_rules.publish import APPLICATION
    from mart.session import session

    current = configured()
    day = _named(business_date, current)
    with session(current.require_mart(), APPLICATION) as connection:
        run = quality(connection)
    made = checks(run, max_drift, day)
    console.print(check_table(run.run_id, made))
    if bad := [one for one in made if not one.good]:
        raise QualityError(f"run {run.run_id}: " + "; ".join(f"{one.name}: {one.found}" for one in bad))


def check_table(run_id: int, made: Iterable[Check]) -> Table:
    table = Table(prose("check"), prose("found"), "result", title=f"Run {run_id}")
    for one in made:
        table.add(one.name, one.found, "OK" if one.good else Text("FAILED", "red"))
    return table


@app.command()
def recommend(
    codes: Annotated[list[str], typer.Argument(metavar="CODE", help="Stock codes of what is in the basket.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Show at most N products.")] = 5,
) -> None:
    """Show what customers who buy these products also buy, by the current rules (highest confidence x lift first).

    Codes may be in lower case.
    """
    from batch_rules.publish import APPLICATION
    from batch_rules.recommend import recommend as ask
    from mart.session import session

    with session(configured().require_mart("reader"), APPLICATION) as connection:
        found = ask(connection, codes, n)
    console.print(found.why_nothing or recommendation_table(found.rows), markup=False)


def recommendation_table(rows: Iterable[tuple[Any, ...]]) -> Table:
    table = Table("code", prose("product"), prose("because of"), number("confidence"), number("lift"))
    for code, name, because, confidence, lift, _support in rows:
        table.add(code, name, " + ".join(because), f"{confidence:.1%}", f"{lift:.2f}")
    return table


@app.command()
def runs(n: Annotated[int, typer.Option("-n", min=1, help="Show the newest N runs.")] = 20) -> None:
    """List the runs, newest first; a star marks the current one. Thresholds: support / confidence."""
    from batch_rules.publish import APPLICATION, rows
    from mart.session import session

    with session(configured().require_mart(), APPLICATION) as connection:
        found = rows(connection, "select_runs", {"n": n})
    console.print(runs_table(found) if found else "no runs yet: `retail-mart mine` makes the first", markup=False)


def runs_table(rows: Iterable[tuple[Any, ...]]) -> Table:
    table = Table(
        "run", prose("window"), prose("thresholds"), "lake", number("baskets"), number("rules"), prose("status")
    )
    for row in rows:
        run_id, day, days, support, confidence, items, version, baskets, count, status, is_current, reason = row
        table.add(
            f"{'*' if is_current else ''}{run_id}",
            f"{days}d to {day}",
            f"{support} / {confidence}" + (f" / ≤ {items} items" if items else ""),
            f"v{version}",
            *("" if figure is None else f"{figure:,}" for figure in (baskets, count)),
            f"{status}: {reason}" if reason else status,
        )
    return table


@app.command()
def rollback(run_id: Annotated[int, typer.Argument(metavar="RUN", help="Number of a published run.")]) -> None:
    """Make another published run the current one, at once and whole."""
    from batch_rules.publish import APPLICATION, roll_back
    from mart.session import session

    with session(configured().require_mart(), APPLICATION) as connection:
        roll_back(connection, run_id)
        typer.echo(f"run {run_id} is the current one")


def _show_top(n: int) -> None:
    from batch_rules.publish import APPLICATION, rows
    from mart.session import session

    with session(configured().require_mart(), APPLICATION) as connection:
        found = rows(connection, "top", {"n": n})
    if found:
        console.print(top_table(found))


def top_table(rows: Iterable[tuple[Any, ...]]) -> Table:
    table = Table(prose("who buys"), prose("also takes"), number("support"), number("confidence"), number("lift"))
    for antecedent, consequent, support, confidence, lift in rows:
        table.add(" + ".join(antecedent), " + ".join(consequent), f"{support:.2%}", f"{confidence:.1%}", f"{lift:.2f}")
    return table
