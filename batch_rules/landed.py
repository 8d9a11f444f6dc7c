"""Landed: is a business date whole in the lake? The mart's invoices of the day against the lake's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from batch_rules.errors import NotLandedError, RulesError
from batch_rules.publish import APPLICATION, rows
from conf.counted import counted
from conf.errors import UnavailableError
from conf.lake_storage import delta_options, failure
from conf.settings import Settings
from mart.session import session

_POLL_SECONDS = 5


@dataclass(frozen=True)
class Freshness:
    """How lake and mart agree on one business date, in distinct invoices.

    `not_landed` are in the mart and not in the lake, `not_applied` in the lake and not in the mart. `newest` is the
    business date of the mart's newest invoice, None in an empty mart.
    """

    business_date: date
    in_lake: int
    in_mart: int
    not_landed: int
    not_applied: int
    newest: date | None

    def lacks(self, allow_empty: bool = False) -> str | None:
        """What is still to come, or None: the day is whole.

        A day without invoices is whole if the mart has later ones, or if `allow_empty` says so; else nobody knows
        whether the shop was closed or the stream has stalled.
        """
        if self.not_landed or self.not_applied:
            return f"{self.not_landed:,} not landed yet, {self.not_applied:,} not applied to the mart yet"
        behind = self.newest is None or self.newest < self.business_date
        if self.in_mart == 0 and behind and not allow_empty:
            newest = f"the mart's newest invoice is of {self.newest}" if self.newest else "the mart is empty"
            return (
                f"{newest}: is the stream behind? If the shop was closed that day, add --allow-empty; for the newest "
                "day that has landed, `--business-date newest`"
            )
        return None

    def __str__(self) -> str:
        return f"{self.business_date}: {counted(self.in_lake, 'invoice')} in the lake, {self.in_mart:,} in the mart"


def landed_invoices(lake: str, business_date: date) -> list[str]:
    """The distinct invoice numbers in the lake's partition of a business date, read without Spark.

    Raises RulesError if there is no lake or it cannot be read, UnavailableError if its storage is unavailable.
    """
    with reading(lake):
        table = opened(lake)
        of_the_day = pc.field("business_date") == business_date
        invoices = table.to_pyarrow_dataset().to_table(columns=["invoice"], filter=of_the_day)
        return list(invoices["invoice"].unique().to_pylist())


def newest_business_date(lake: str) -> date:
    """The newest business date that the lake holds, by its log alone. Raises RulesError if there is none,
    UnavailableError."""
    newest = newest_of(opened(lake))
    if newest is None:
        raise RulesError(f"the lake at {lake} holds no invoices yet")
    return newest


def newest_of(table: DeltaTable) -> date | None:
    """The newest business date of the version that `table` is at; None: it holds no invoice. Raises RulesError,
    UnavailableError."""
    with reading(table.table_uri):
        dates = [partition["business_date"] for partition in table.partitions()]
    return date.fromisoformat(max(dates)) if dates else None


def opened(lake: str, version: int | None = None) -> DeltaTable:
    """The lake at a version; None: the newest. Raises RulesError if there is no lake or it has no such version,
    UnavailableError if its storage is unavailable."""
    with reading(lake, version):
        return DeltaTable(lake, version=version, storage_options=delta_options(lake))


@contextmanager
def reading(lake: str, version: int | None = None) -> Iterator[None]:
    """Around what reads the lake: raises UnavailableError if its storage is unavailable, RulesError for the rest."""
    try:
        yield
    except TableNotFoundError:
        raise RulesError(
            f"no lake at {lake} yet: land some invoices first (`retail-mart run`), or set LAKE_PATH"
        ) from None
    except (DeltaError, OSError, duckdb.Error) as error:
        if found := failure(error):
            raise (UnavailableError if found.passing else RulesError)(f"the lake at {lake} {found.reason}") from None
        at_version = "" if version is None else f" at version {version}"
        raise RulesError(f"the lake at {lake} cannot be read{at_version}: {str(error).splitlines()[0]}") from None


def freshness(settings: Settings, business_date: date) -> Freshness:
    """Compare the mart with the lake as they are now. Raises RulesError, UnavailableError."""
    with session(settings.require_mart(), APPLICATION) as connection:
        landed = landed_invoices(settings.lake, business_date)  # first the lake: what lands meanwhile is in the mart
        ((in_mart, not_landed, not_applied, newest),) = rows(
            connection, "compare_day", {"landed": landed, "business_date": business_date}
        )
    return Freshness(business_date, len(landed), in_mart, not_landed, not_applied, newest)


def wait_until_landed(
    settings: Settings, business_date: date, seconds: float, allow_empty: bool, say: Callable[[str], None]
) -> Freshness:
    """Compare until the day is whole or the time is up; `say` hears each change.

    Raises NotLandedError with the numbers, RulesError, UnavailableError.
    """
    deadline = time.monotonic() + seconds
    said: Freshness | None = None
    while True:
        found = freshness(settings, business_date)
        lacks = found.lacks(allow_empty)
        if lacks is None:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotLandedError(f"{found}; {lacks}")
        if found != said:
            said = found
            say(f"{found}; {lacks}")
        time.sleep(min(_POLL_SECONDS, left))
