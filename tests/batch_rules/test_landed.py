"""Is a business date whole in the lake? Compared with a real mart and a real Delta table."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from batch_rules import landed as landing
from batch_rules.errors import NotLandedError, RulesError
from batch_rules.landed import Freshness, freshness, landed_invoices, newest_business_date, wait_until_landed
from tests.builders.nightly import DAY, insert_applied, sale, sales
from tests.builders.verbs import run

NEXT_DAY = DAY + timedelta(days=1)


def found(**more) -> Freshness:
    return Freshness(
        **({"business_date": DAY, "in_lake": 3, "in_mart": 3, "not_landed": 0, "not_applied": 0, "newest": DAY} | more)
    )


@pytest.mark.parametrize(
    ("comparison", "lacks"),
    [
        (found(), None),
        (found(not_landed=2), "2 not landed yet, 0 not applied to the mart yet"),
        (found(not_applied=1), "0 not landed yet, 1 not applied to the mart yet"),
        (found(in_lake=4), None),  # one number more in the lake, which the mart has under another date
        (found(in_lake=0, in_mart=0, newest=None), "the mart is empty: is the stream behind?"),
        (found(in_lake=0, in_mart=0, newest=DAY - timedelta(days=1)), "newest invoice is of 2026-03-09: is the stream"),
        (found(in_lake=0, in_mart=0, newest=NEXT_DAY), None),
    ],
)
def test_what_is_lacking(comparison, lacks):
    answer = comparison.lacks()
    assert answer == lacks if lacks is None else lacks in answer


def test_an_empty_day_may_be_allowed_but_never_a_missing_invoice():
    assert found(in_lake=0, in_mart=0, newest=None).lacks(allow_empty=True) is None
    assert found(in_lake=0, in_mart=1, not_landed=1).lacks(allow_empty=True) is not None


@pytest.mark.stack
@pytest.mark.spark
def test_the_lake_against_the_mart(shop):
    dsn = shop.settings.require_mart("owner")
    with pytest.raises(RulesError, match="no lake at"):
        freshness(shop.settings, DAY)
    shop.land(sales("a b", "a c", "b c"))  # I0, I1, I2
    shop.land(sales("a b", "a c"))  # landed twice: still one invoice each
    shop.land([sale("tomorrow", "a1", day=NEXT_DAY)])
    assert sorted(landed_invoices(shop.settings.lake, DAY)) == ["I0", "I1", "I2"]
    assert freshness(shop.settings, DAY) == Freshness(DAY, 3, 0, 0, 3, None)
    insert_applied(dsn, ("I0", DAY), ("I1", DAY), ("tomorrow", NEXT_DAY))
    assert freshness(shop.settings, DAY) == Freshness(DAY, 3, 2, 0, 1, NEXT_DAY)
    insert_applied(dsn, ("I2", DAY), ("late", DAY))
    assert freshness(shop.settings, DAY) == Freshness(DAY, 3, 4, 1, 0, NEXT_DAY)
    shop.land([sale("late", "a1")])
    assert freshness(shop.settings, DAY) == Freshness(DAY, 4, 4, 0, 0, NEXT_DAY)
    # The same number sold again on another day is a conflict: the mart keeps the first one, the lake both.
    shop.land([sale("I0", "z1", day=NEXT_DAY)])
    assert freshness(shop.settings, NEXT_DAY) == Freshness(NEXT_DAY, 2, 1, 0, 0, NEXT_DAY)
    assert freshness(shop.settings, NEXT_DAY).lacks() is None


@pytest.mark.stack
@pytest.mark.spark
def test_waiting_ends_when_the_rest_lands(shop, monkeypatch):
    monkeypatch.setattr(landing, "_POLL_SECONDS", 0.01)
    insert_applied(shop.settings.require_mart("owner"), ("I0", DAY), ("I1", DAY))
    shop.land(sales("a b"))
    heard = []

    def hear(line):
        heard.append(line)
        shop.land(sales("a b", "a c"))

    assert wait_until_landed(shop.settings, DAY, 60, False, hear).in_lake == 2
    assert heard == [
        "2026-03-10: 1 invoice in the lake, 2 in the mart; 1 not landed yet, 0 not applied to the mart yet"
    ]
    with pytest.raises(NotLandedError, match="the mart's newest invoice is of 2026-03-10: is the stream behind"):
        wait_until_landed(shop.settings, NEXT_DAY, 0.5, False, heard.append)
    assert len(heard) == 2  # said once, however often it looked


@pytest.mark.stack
@pytest.mark.spark
def test_the_command(shop, monkeypatch):
    monkeypatch.setattr("conf.settings.settings", lambda: shop.settings)
    monkeypatch.setenv("COLUMNS", "200")

    def landed(*arguments):
        ended = run("landed", *arguments)
        return ended.code, ended.text.strip()

    assert landed("--business-date", str(DAY))[0] == 1
    yesterday = datetime.now(shop.settings.zone).date() - timedelta(days=1)
    shop.land([sale("I0", "a1", day=yesterday)])
    assert landed() == (
        5,
        f"not landed: {yesterday}: 1 invoice in the lake, 0 in the mart; "
        "0 not landed yet, 1 not applied to the mart yet",
    )
    insert_applied(shop.settings.require_mart("owner"), ("I0", yesterday))
    assert landed() == (0, f"{yesterday}: 1 invoice in the lake, 1 in the mart: landed")
    assert landed("--business-date", "2030-01-01")[0] == 5
    assert landed("--business-date", "newest") == landed()
    assert landed("--business-date", "2030-01-01", "--allow-empty")[0] == 0
    assert landed("--wait", "ten")[0] == 2


@pytest.mark.stack
@pytest.mark.spark
def test_the_newest_business_date_is_the_lakes(shop, tmp_path):
    shop.land(sales("A B", day=DAY))
    shop.land(sales("A C", day=DAY - timedelta(days=3), prefix="J"))
    assert newest_business_date(shop.settings.lake) == DAY
    with pytest.raises(RulesError, match="no lake at"):
        newest_business_date(str(tmp_path / "none"))
