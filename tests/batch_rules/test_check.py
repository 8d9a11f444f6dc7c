"""The checks of the current run: a sound one passes, and each fault that is put into the mart is found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from decimal import Decimal

import psycopg2
import pytest

from batch_rules.check import Quality, checks, quality
from batch_rules.errors import RulesError
from batch_rules.publish import APPLICATION
from mart.session import session
from sql import statement
from tests.builders.nightly import BREAKFAST, DAY, published, sales
from tests.builders.verbs import run

SOUND = Quality(2, DAY, 100, 9, 30, 20, 20, 0, 0, 0, 1, 100, 20, 4, 4)


def bad(run: Quality, max_drift: float = 0.5, **more) -> list[str]:
    return [check.name for check in checks(run, max_drift, **more) if not check.good]


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ({}, []),
        ({"baskets": 0}, ["counts", "drift of baskets"]),
        ({"products": 0}, ["counts"]),
        ({"counted": 19}, ["recorded"]),
        ({"wrong_counts": 1}, ["rule counts"]),
        ({"out_of_range": 1}, ["ranges"]),
        ({"wrong_measures": 1}, ["measures"]),
        ({"baskets": 151}, ["drift of baskets"]),
        ({"baskets": 150}, []),
        ({"baskets": 49}, ["drift of baskets"]),
        # 20 rules before: 6 came and 7 went, 13 of the 26 that are in either run
        ({"appeared": 6, "vanished": 7}, []),
        ({"appeared": 6, "vanished": 8}, ["drift of rules"]),
        ({"before_run_id": None, "baskets_before": None, "rules_before": None, "vanished": 20}, []),
    ],
)
def test_each_fault_is_named(fault, names):
    assert bad(replace(SOUND, **fault)) == names


def test_the_run_must_be_of_the_date_asked_for():
    assert bad(SOUND, business_date=DAY) == []
    assert bad(SOUND, business_date=DAY.replace(day=11)) == ["business date"]


def found(shop) -> Quality:
    with session(shop.settings.require_mart(), APPLICATION) as connection:
        return quality(connection)


@pytest.mark.stack
@pytest.mark.spark
def test_a_published_run_is_sound(shop, spark):
    with pytest.raises(RulesError, match="no run is published yet"):
        found(shop)
    shop.land(sales(*BREAKFAST))
    first = published(shop, spark)
    assert found(shop) == Quality(first, DAY, 10, 5, 10, 4, 4, 0, 0, 0, None, None, None, 0, 0)
    # as in the tests of the drift view: 4 rules appear, 2 vanish, 14 baskets after 10
    shop.land(sales("bread butter", "milk tea", "milk tea", "milk tea", prefix="J"))
    second = published(shop, spark)
    run = found(shop)
    assert (run.run_id, run.before_run_id, run.baskets_before, run.rules_before) == (second, first, 10, 4)
    assert (run.appeared, run.vanished) == (4, 2)
    assert bad(run, 0.75) == []
    assert bad(run, 0.74) == ["drift of rules"]  # 6 of 8
    assert bad(run, 0.39) == ["drift of rules", "drift of baskets"]
    published(shop, spark, confidence=Decimal("0.4"))
    assert found(shop).before_run_id is None  # asked for otherwise: not to be compared


FAULTS = [
    ("UPDATE mart.association_rule SET support = support * 0.999 WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET confidence = confidence * 0.999 WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET lift = lift + 1e-6 WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET lift = 1 WHERE id = 1", ["ranges", "measures"]),
    ("UPDATE mart.association_rule SET leverage = leverage + 1e-6 WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET conviction = coalesce(conviction + 1e-6, 2) WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET conviction = NULL WHERE conviction IS NOT NULL", ["measures"]),
    ("UPDATE mart.association_rule SET zhang = zhang * 0.999 WHERE id = 1", ["measures"]),
    ("UPDATE mart.association_rule SET consequent_count = 11 WHERE id = 1", ["rule counts", "measures"]),
    ("UPDATE mart.rule_run SET min_support = 0.51", ["rule counts"]),
    ("UPDATE mart.rule_run SET min_confidence = 0.99", ["rule counts"]),
    ("UPDATE mart.rule_run SET baskets = 11", ["rule counts", "measures"]),
    ("DELETE FROM mart.association_rule WHERE id = 1", ["recorded"]),
    ("UPDATE mart.rule_run SET products = 0", ["counts"]),
]


@pytest.mark.stack
@pytest.mark.spark
def test_a_fault_in_the_mart_is_found(shop, spark):
    shop.land(sales(*BREAKFAST))
    published(shop, spark)
    assert bad(found(shop)) == []
    named = {}
    with closing(psycopg2.connect(shop.settings.require_mart("owner"))) as owner, owner.cursor() as cursor:
        for fault, _ in FAULTS:
            cursor.execute(fault)
            assert cursor.rowcount > 0, fault
            cursor.execute(statement("rules/select_quality"))
            named[fault] = bad(Quality(*cursor.fetchone()))
            owner.rollback()
    assert named == dict(FAULTS)
    assert bad(found(shop)) == []


@pytest.mark.stack
@pytest.mark.spark
def test_the_command(shop, spark, monkeypatch):
    monkeypatch.setattr("conf.settings.settings", lambda: shop.settings)
    monkeypatch.setenv("COLUMNS", "200")

    def check(*arguments):
        ended = run("check", *arguments)
        return ended.code, ended.text

    assert check()[0] == 1
    shop.land(sales(*BREAKFAST))
    published(shop, spark)
    code, output = check("--business-date", str(DAY))
    assert code == 0, output
    assert "FAILED" not in output
    code, output = check("--business-date", "2026-03-09")
    assert code == 3
    last_line = output.strip().splitlines()[-1]
    assert last_line == "not sound: run 1: business date: the current run is of 2026-03-10"
