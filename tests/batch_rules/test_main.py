"""The whole job on a small lake: what is published, what is kept back, and what readers see."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import psycopg2
import pytest

from batch_rules.errors import KeptBackError, RulesError
from batch_rules.main import run
from batch_rules.publish import APPLICATION, roll_back
from conf.errors import StreamingError, UnavailableError
from mart.session import session
from tests.builders.nightly import BREAKFAST, DAY, current, options, published, sales

pytestmark = [pytest.mark.stack, pytest.mark.spark]


def rule_counts(shop):
    return dict(shop.rows("SELECT run_id, count(*) FROM mart.association_rule GROUP BY 1"))


def test_published_rules(shop, spark):
    version = shop.land(sales(*BREAKFAST))
    run_id = published(shop, spark)
    rules = shop.rows(
        """SELECT antecedent_names, consequent_names, antecedent_codes, consequent_codes, support, confidence, lift,
                  leverage, conviction, together_count, antecedent_count, consequent_count, baskets
           FROM mart.market_basket_analysis ORDER BY id""",
        role="reader",
    )
    # bread 8, butter 5, jam 4, tea 4 of 10; bread+butter 5, butter+jam 2: lift 5·10/(8·5) = 1.25, 2·10/(5·4) = 1.
    assert {(*a, *c) for _, _, a, c, *_ in rules} == {
        *(("bread1", "butter1"), ("butter1", "bread1")),
        ("bread1", "jam1", "butter1"),
        ("butter1", "jam1", "bread1"),
    }
    butter = next(rule for rule in rules if rule[2] == ["butter1"])
    assert butter[:4] == (["Name of butter1"], ["Name of bread1"], ["butter1"], ["bread1"])
    assert butter[4:8] == pytest.approx((0.5, 1.0, 1.25, 0.1))
    assert butter[8:] == (None, 5, 5, 8, 10)
    ((*recorded, seconds),) = shop.rows(
        """SELECT id, status, is_current, business_date, window_days, min_support, min_confidence, max_items, engine,
                  lake, lake_version, invoices, baskets, products, rules, seconds FROM mart.rule_run"""
    )
    assert recorded == [
        *(run_id, "published", True, DAY, 90, Decimal("0.2"), Decimal("0.3"), None, "eclat"),
        *(shop.settings.lake, version, 10, 10, 5, 4),
    ]
    assert set(seconds) == {"open lake", "conflicts", "read", "name", "mine", "measure"}


def test_the_version_is_pinned(shop, spark):
    before = shop.land(sales(*BREAKFAST))
    shop.land(sales(*["milk tea"] * 10, prefix="later"))
    published(shop, spark, lake_version=before)
    assert shop.rows("SELECT lake_version, baskets FROM mart.rule_run WHERE is_current") == [(before, 10)]
    published(shop, spark)
    assert shop.rows("SELECT lake_version, baskets FROM mart.rule_run WHERE is_current") == [(before + 1, 20)]
    with pytest.raises(RulesError, match="cannot be read at version 99"):
        published(shop, spark, lake_version=99)


def test_guards_keep_the_last_good_run(shop, spark):
    shop.land(sales(*BREAKFAST))
    good = published(shop, spark)
    before = shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id")
    for more, reason in [
        ({"business_date": DAY - timedelta(days=1)}, "no baskets"),
        ({"business_date": DAY + timedelta(days=90)}, f"the lake ends on {DAY}, .* `--business-date newest`"),
        ({"support": Decimal("0.1"), "max_itemsets": 5}, "too low"),
        ({"support": Decimal(1)}, "no rule has support 1"),
    ]:
        with pytest.raises(KeptBackError, match=reason):
            published(shop, spark, **more)
        assert shop.rows("SELECT status, is_current, rules > 0 FROM mart.rule_run ORDER BY id DESC LIMIT 1")[0][:2] == (
            "kept back",
            False,
        )
    assert current(shop) == [(good, 4)]
    assert shop.rows("SELECT * FROM mart.market_basket_analysis ORDER BY id") == before
    assert [reason.split(":")[0][:10] for (reason,) in shop.rows("SELECT reason FROM mart.rule_run WHERE id > 1")] == [
        "no baskets",
        "the lake e",
        "support 0.",
        "no rule ha",
    ]


def test_a_collapse_is_kept_back_unless_allowed_or_asked_for(shop, spark):
    shop.land(sales(*BREAKFAST))
    good = published(shop, spark)
    shop.land(sales(*["bread butter", "milk tea"] * 5, day=DAY + timedelta(days=1), prefix="J"))
    tomorrow = {"business_date": DAY + timedelta(days=1), "window_days": 1}
    # 4 rules tomorrow as well: bread ↔ butter, milk ↔ tea.
    second = published(shop, spark, **tomorrow)
    assert current(shop) == [(second, 4)]
    shop.land(sales(*["bread butter", "milk tea", "milk jam"] * 3, day=DAY + timedelta(days=2), prefix="K"))
    collapsed = {"business_date": DAY + timedelta(days=2), "window_days": 1, "confidence": Decimal("0.3")}
    with pytest.raises(KeptBackError, match=rf"the current run {second} has 4: a drop of"):
        published(shop, spark, **collapsed, max_drop=-1)  # any number of rules below twice the last one's
    assert current(shop) == [(second, 4)]
    third = published(shop, spark, **(collapsed | {"confidence": Decimal("0.9")}), max_drop=-1)  # asked for
    assert current(shop)[0][0] == third
    assert third > second > good


def test_drift_and_rollback(shop, spark):
    shop.land(sales(*BREAKFAST))
    first = published(shop, spark)
    assert shop.rows("SELECT * FROM mart.rule_drift", role="reader") == []
    shop.land(sales("bread butter", "milk tea", "milk tea", "milk tea", prefix="J"))
    second = published(shop, spark)
    changes = {
        (*a, *c): (change, before, now)
        for change, a, c, before, now in shop.rows(
            "SELECT change, antecedent_codes, consequent_codes, lift_before, lift FROM mart.rule_drift", role="reader"
        )
    }
    # Of 14 baskets bread 9, butter 6, jam 4, tea 7, milk 5; milk+tea 4, bread+jam 3,
    # and bread+butter+jam only 2: less than 0.2.
    assert changes == {
        ("butter1", "bread1"): ("strengthened", 1.25, pytest.approx(6 * 14 / (6 * 9))),
        ("bread1", "butter1"): ("strengthened", 1.25, pytest.approx(6 * 14 / (6 * 9))),
        ("bread1", "jam1"): ("appeared", None, pytest.approx(3 * 14 / (9 * 4))),
        ("jam1", "bread1"): ("appeared", None, pytest.approx(3 * 14 / (9 * 4))),
        ("milk1", "tea1"): ("appeared", None, pytest.approx(4 * 14 / (5 * 7))),
        ("tea1", "milk1"): ("appeared", None, pytest.approx(4 * 14 / (5 * 7))),
        ("bread1", "jam1", "butter1"): ("vanished", pytest.approx(2 * 10 / (3 * 5)), None),
        ("butter1", "jam1", "bread1"): ("vanished", 1.25, None),
    }
    with session(shop.settings.require_mart(), APPLICATION) as connection:
        roll_back(connection, first)
        assert current(shop) == [(first, 4)]
        assert shop.rows("SELECT DISTINCT run_id FROM mart.market_basket_analysis") == [(first,)]
        roll_back(connection, second)
        with pytest.raises(RulesError, match="there is no run 99"):
            roll_back(connection, 99)
    assert current(shop) == [(second, 6)]
    with pytest.raises(KeptBackError):
        published(shop, spark, support=Decimal(1))
    with (
        session(shop.settings.require_mart(), APPLICATION) as connection,
        pytest.raises(RulesError, match="run 3 was kept back"),
    ):
        roll_back(connection, 3)


def test_old_runs_are_deleted_but_never_the_current_or_its_predecessor(shop, spark):
    shop.land(sales(*BREAKFAST))
    shop.settings.rule_runs_kept = 2
    runs = [published(shop, spark) for _ in range(3)]
    assert set(rule_counts(shop)) == set(runs[1:])
    assert shop.rows("SELECT id, previous_run_id FROM mart.rule_run ORDER BY id") == [
        (runs[1], None),  # its own predecessor is no longer kept
        (runs[2], runs[1]),
    ]
    with session(shop.settings.require_mart(), APPLICATION) as connection:
        roll_back(connection, runs[1])
    shop.settings.rule_runs_kept = 1
    newest = published(shop, spark)
    assert set(rule_counts(shop)) == {runs[1], newest}


def test_recommend(shop, spark):
    shop.land(sales(*["a b c"] * 6, *["a b"] * 2, *["a d"] * 3, *["d e"] * 4, "b e"))
    published(shop, spark, support=Decimal("0.1"), confidence=Decimal("0.1"))

    def recommended(*codes, n=5):
        return shop.rows(
            "SELECT stock_code, because, confidence FROM mart.recommend(%s, %s)", list(codes), n, role="reader"
        )

    # a 11, b 9, c 6, d 7, e 5 of 16; ab 8, ac 6, bc 6, abc 6, de 4
    assert [(code, because) for code, because, _ in recommended("a1")] == [
        ("b1", ["Name of a1"]),  # 8/11 · (8·16)/(11·9) = 0.94
        ("c1", ["Name of a1"]),  # 6/11 · (6·16)/(11·6) = 0.79
    ]
    assert recommended("a1", n=1) == [("b1", ["Name of a1"], pytest.approx(8 / 11))]
    # a and b together are a better reason for c than either alone, and neither is recommended to who has it
    assert recommended("a1", "b1") == [("c1", ["Name of a1", "Name of b1"], pytest.approx(6 / 8))]
    assert [code for code, *_ in recommended("a1", "b1", "c1", "d1")] == ["e1"]
    assert recommended("unknown") == recommended() == recommended("a1", n=0) == []


def test_names_with_every_character(shop, spark):
    name = 'a "quoted", \\ {back}slash\nand NULL \''
    invoices = sales(*BREAKFAST)
    for invoice in invoices:
        invoice.lines = [
            line._replace(description=name) if line.stock_code == "butter1" else line for line in invoice.lines
        ]
    shop.land(invoices)
    published(shop, spark)
    names = shop.rows("SELECT antecedent_names, consequent_names FROM mart.market_basket_analysis")
    assert {n for sides in names for side in sides for n in side} == {name, "Name of bread1", "Name of jam1"}


def test_readers_see_views_only(shop, spark):
    shop.land(sales(*BREAKFAST))
    published(shop, spark)
    for query in ("SELECT * FROM mart.rule_run", "SELECT * FROM mart.association_rule", "DELETE FROM mart.rule_run"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            shop.rows(query, role="reader")


def test_clear_errors(shop, spark):
    with pytest.raises(RulesError, match="no lake at"):
        published(shop, spark)
    shop.land(sales(*BREAKFAST))
    with (
        session(shop.settings.require_mart("owner"), APPLICATION) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("DROP TABLE mart.rule_run CASCADE")
    with pytest.raises(StreamingError, match="retail-mart migrate"):
        published(shop, spark)
    with (
        pytest.raises(UnavailableError, match="is unavailable"),
        session("postgresql://nobody@127.0.0.1:1/none", APPLICATION),
    ):
        pass


@pytest.mark.parametrize("limit", ["batch_rules.main.DRIVER_OCCURRENCES", "batch_rules.mine.DRIVER_ITEMS"])
def test_spark_is_asked_for_only_where_it_mines(shop, spark, monkeypatch, limit):
    """Else the job reads the lake by delta-rs and starts none. Both ways find the same."""
    shop.land(sales(*BREAKFAST))
    asked = []

    def started(*arguments):
        asked.append(arguments)
        return spark

    monkeypatch.setattr("batch_rules.main.spark_session", started)
    monkeypatch.setattr(spark, "stop", lambda: None, raising=False)
    run(shop.settings, options())
    assert not asked
    monkeypatch.setattr(limit, 2)
    run(shop.settings, options())
    run(shop.settings, options(engine="fpgrowth"))
    assert len(asked) == 2
    found = """SELECT run.engine, run.invoices, run.baskets, run.products, run.itemsets,
                      array_agg((r.antecedent_codes, r.consequent_code, r.support, r.lift)::text ORDER BY r.id)
               FROM mart.rule_run run JOIN mart.association_rule r ON r.run_id = run.id GROUP BY run.id
               ORDER BY run.id"""
    first, second, third = shop.rows(found)
    assert [first[0], second[0], third[0]] == ["eclat", "fpgrowth", "fpgrowth"]
    assert first[1:5] == second[1:5] == third[1:5]
    assert sorted(first[5]) == sorted(second[5]) == sorted(third[5])
