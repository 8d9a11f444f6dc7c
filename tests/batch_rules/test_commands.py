"""The command line: usage, exit codes and what is shown."""

import pytest

from batch_rules import main
from batch_rules.errors import KeptBackError, RulesError
from conf.errors import UnavailableError
from tests.builders import verbs
from tests.builders.nightly import BREAKFAST, DAY, published, sales


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments):
    ended = verbs.run(*arguments)
    return ended.code, " ".join(ended.text.split())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--business-date", "2026-02-30", "'2026-02-30' is not a date"),
        ("--window", "0d", "'0d' is not a number of days: give it as 90d"),
        ("--support", "0", "0 would make every itemset frequent"),
        ("--support", "1.5", "'1.5' is not a share"),
        ("--confidence", "nan", "'nan' is not a share"),
        ("--confidence", "0.1234567", "at most 6 decimals"),
        ("--max-items", "1", "Invalid value for '--max-items'"),
        ("--engine", "apriori", "'apriori'"),
    ],
)
def test_usage(option, value, says):
    code, output = run("mine", "--business-date", "2026-01-31", option, value)
    assert code == 2
    assert says in output.replace("│ ", "")


@pytest.mark.parametrize(
    ("error", "expected", "says"),
    [
        (KeptBackError("why"), 3, "kept back, the current rules stay: why"),
        (UnavailableError("why"), 4, "gave up: why. When it is back, run it again: "),
        (RulesError("why"), 1, "why"),
    ],
)
def test_exit_codes(monkeypatch, error, expected, says):
    def fail(settings, options):
        assert (options.window_days, str(options.support), options.engine) == (30, "0.01", "fpgrowth")
        raise error

    monkeypatch.setattr(main, "run", fail)
    code, output = run(
        "mine", "--business-date", "2026-01-31", "--window", "30d", "--support", "0.01", "--engine=fpgrowth"
    )
    assert (code, output.startswith(says)) == (expected, True), output


@pytest.mark.stack
@pytest.mark.spark
def test_against_a_mart(shop, spark, monkeypatch):
    monkeypatch.setattr("conf.settings.settings", lambda: shop.settings)
    monkeypatch.setattr(main, "run", lambda settings, options: main.run_in(spark, settings, options))
    assert run("recommend", "butter1") == (0, "no rules yet: `retail-mart mine` makes them")
    assert run("runs") == (0, "no runs yet: `retail-mart mine` makes the first")
    shop.land(sales(*BREAKFAST))
    code, output = run("mine", "--business-date", str(DAY), "--support", "0.2", "--confidence", "0.3")
    assert code == 0, output
    assert "run 1: 4 rules from 10 itemsets of 10 baskets (5 products, eclat), lake version 0" in output
    assert "Name of butter1 + Name of jam1" in output
    code, output = run("recommend", "butter1")
    assert code == 0
    assert "Name of bread1" in output
    assert "100.0%" in output
    assert run("recommend", "BUTTER1") == (code, output)
    nothing = "no current rule begins with nothing1: is the stock code right? Or little is bought with it"
    assert run("recommend", "Nothing1", "nothing1") == (0, nothing.replace("nothing1:", "Nothing1, nothing1:"))
    assert run("recommend", "bread1", "butter1", "jam1")[1].startswith("the current rules lead from bread1, butter1, j")
    published(shop, spark)
    assert run("check", "--business-date", "newest")[0] == 0
    assert run("mine", "--business-date", "2020-01-01")[0] == 3
    assert run("rollback", "1") == (0, "run 1 is the current one")
    assert run("rollback", "3")[0] == 1
    code, output = run("runs")
    assert code == 0
    assert [word for word in ("*1", "kept back: no baskets", "90d to 2026-03-10") if word not in output] == []
