"""The DAG as Airflow sees it, and whole nights of it: a good one, failed ones, and the one after."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conf.settings import Settings
from tests.builders.nightly import BREAKFAST, DAY, insert_applied, sale, sales
from tests.builders.sinks import listening

pytestmark = pytest.mark.slow
DAGS = Path(__file__).parents[2] / "dags"


def describe(airflow, business_dates=(), **extra):
    done = airflow.run(
        str(Path(__file__).with_name("describe_dag.py")), str(DAGS), json.dumps(business_dates), extra=extra
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_dag_is_imported_without_a_warning_and_has_its_shape(airflow):
    dag = describe(airflow)
    assert (dag["import_errors"], dag["warnings"], dag["dags"]) == ({}, {}, ["nightly_rules"])
    assert (dag["schedule"], dag["time_zone"], dag["dag_time_zone"]) == ("0 2 * * *", "Asia/Jakarta", "Asia/Jakarta")
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    params = {name: (param["value"], param["schema"]["type"]) for name, param in dag["params"].items()}
    assert params == {"business_date": (None, ["null", "string"]), "allow_empty": (False, "boolean")}
    order = ["landed", "compact", "run_rules", "check", "announce"]
    assert [(name, task["after"]) for name, task in dag["tasks"].items()] == list(
        zip(order, [[], *([name] for name in order[:-1])], strict=True)
    )
    for task in dag["tasks"].values():
        assert (task["retries"], task["backoff"], task["first_delay"], task["longest_delay"]) == (3, 2, 300, 3600)
        assert task["timeout"] == 3600
        assert task["on_failure"] == ["remember_failure"]  # nothing is configured, so nobody is told
    assert dag["tasks"]["announce"]["on_success"] == ["forget_failure"]
    assert dag["tasks"]["announce"]["outlets"] == ["association_rules"]


def test_every_task_is_a_command_that_the_project_has(airflow):
    for task in describe(airflow)["tasks"].values():
        command, *_ = task["arguments"]
        shown = subprocess.run(
            [sys.executable, "-m", "cli", command, "--help"], capture_output=True, text=True, env={"COLUMNS": "200"}
        )
        assert shown.returncode == 0, shown.stderr
        options = [argument for argument in task["arguments"] if argument.startswith("-")]
        assert [option for option in options if option not in shown.stdout] == []


def test_alerts_are_there_where_they_are_configured(airflow):
    tasks = describe(airflow, ALERT_EMAIL_TO="a@example.com")["tasks"]
    assert tasks["check"]["on_failure"] == ["SmtpNotifier", "remember_failure"]
    tasks = describe(airflow, ALERT_EMAIL_TO=" , ", AIRFLOW_CONN_SLACK_DEFAULT="slackwebhook://")["tasks"]
    assert tasks["check"]["on_failure"] == ["SlackWebhookNotifier", "remember_failure"]
    assert tasks["announce"]["on_success"] == ["notify_if_recovered", "forget_failure"]


def test_the_business_date_is_the_day_before_the_run_in_the_shops_zone(airflow):
    cases = [
        (None, "2026-03-10T19:00:00+00:00"),  # 02:00 on the 11th in Jakarta
        (None, "2026-03-10T16:59:59+00:00"),  # a second before midnight there
        (None, None, "2026-03-10T17:00:00+00:00"),  # by hand, without a logical date: midnight
        ("2026-01-31", "2026-03-10T19:00:00+00:00"),
    ]
    assert describe(airflow, cases)["business_dates"] == ["2026-03-10", "2026-03-09", "2026-03-10", "2026-01-31"]
    new_york = describe(airflow, [(None, "2026-03-09T06:00:00+00:00")], SHOP_TIME_ZONE="America/New_York")
    assert new_york["business_dates"] == ["2026-03-08"]  # the day when clocks went forward
    assert new_york["time_zone"] == "America/New_York"


@pytest.fixture
def night(airflow, shop, servers, tmp_path):
    """A function that runs the DAG for DAY once: (exit code, log)."""
    current: Settings = shop.settings
    variables = {
        "MART_HOME": str(tmp_path / "home"),
        "MART_DSN": current.require_mart(),
        "MART_OWNER_DSN": current.require_mart("owner"),
        "MART_READER_DSN": current.require_mart("reader"),
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers or "",
        "LAKE_PATH": current.lake,
        "SPARK_MASTER": "local[2]",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    }

    def run(extra):
        conf = json.dumps({"business_date": str(DAY)})
        done = airflow.run(
            "-m", "airflow", "dags", "test", "nightly_rules", "--conf", conf, extra={**variables, **extra}
        )
        with (tmp_path / "nights.log").open("a") as log:
            log.write(done.stdout)
        return done.returncode, done.stdout

    return run


def open_for_business(shop, invoices):
    """The day's invoices, in the lake and in the mart."""
    shop.land(invoices)
    insert_applied(shop.settings.require_mart("owner"), *((invoice.number, DAY) for invoice in invoices))


def commands_run(log):
    return re.findall(r"Running command: \['[^']+', '-m', 'cli', '(\w+)'", log)


def current_runs(shop):
    return shop.rows("SELECT business_date, is_current, status FROM mart.rule_run ORDER BY id")


@pytest.mark.stack
@pytest.mark.spark
def test_a_failure_is_told_after_the_last_try(airflow, shop, night):
    with listening() as sinks:
        code, log = night(sinks.environment)
        assert code != 0
        assert commands_run(log) == ["landed"] * 4, log[-5000:]  # a try and three more
        (mail,), (slack,) = sinks.mails, sinks.slack_texts
        assert sinks.refused == []
    assert mail["Subject"] == "nightly_rules failed: landed, business date 2026-03-10"
    assert mail["From"] == "mart@example.com"
    assert mail["X-Recipients"] == "shop@example.com, data@example.com"
    text = mail.get_body(("html",)).get_content()
    for found in (text, slack):
        told = found.replace("&#39;", "'").replace("&#34;", '"')
        assert "What failed: task landed of nightly_rules, try 4" in told
        assert "Business date: 2026-03-10" in told
        assert "ended with exit code 1: no lake at" in told
        assert "/dags/nightly_rules/runs/manual__" in told
        assert "-m cli landed --business-date 2026-03-10 --wait 10m --no-allow-empty" in told
        assert """airflow dags trigger nightly_rules --conf '{"business_date": "2026-03-10"}'""" in told
    assert slack.startswith("*nightly_rules failed: landed, business date 2026-03-10*\n")
    assert current_runs(shop) == []
    assert mart_passwords(shop, log + text + slack) == []


@pytest.mark.stack
@pytest.mark.spark
def test_a_guard_fails_the_night_at_once_and_the_next_good_one_is_told(airflow, shop, night):
    open_for_business(shop, [sale(f"single{i}", "a1") for i in range(5)])
    with listening() as sinks:
        code, log = night(sinks.environment)
        assert code != 0
        assert commands_run(log) == ["landed", "compact", "mine"], log[-5000:]  # no second try
        assert [mail["Subject"] for mail in sinks.mails] == [
            "nightly_rules failed: run_rules, business date 2026-03-10"
        ]
        assert "Why: `retail-mart mine" in sinks.slack_texts[0]
        assert "exit code 3: kept back, the current rules stay: no baskets" in sinks.slack_texts[0]
        assert current_runs(shop) == [(DAY, False, "kept back")]

        sinks.clear()
        open_for_business(shop, sales(*BREAKFAST * 30))
        code, log = night(sinks.environment)
        assert code == 0, log[-5000:]
        (mail,) = sinks.mails
        assert mail["Subject"] == "nightly_rules has recovered, business date 2026-03-10"
        (slack,) = sinks.slack_texts
        assert "What had failed: task run_rules, business date 2026-03-10, run manual__" in slack
        assert current_runs(shop)[-1] == (DAY, True, "published")
        assert commands_run(log) == ["landed", "compact", "mine", "check", "runs"]

        sinks.clear()
        code, log = night(sinks.environment)
        assert code == 0, log[-5000:]
        assert (sinks.mails, sinks.slack_texts, sinks.refused) == ([], [], [])  # a good night after a good one
    published = [run for run in current_runs(shop) if run[2] == "published"]
    assert published == [(DAY, False, "published"), (DAY, True, "published")]


def mart_passwords(shop, text):
    """Of the mart's passwords those that stand in a text."""
    dsns = [shop.settings.require_mart(role) for role in ("writer", "owner", "reader")]
    return [dsn for dsn in dsns if dsn.split("@")[0].split(":")[-1] in text]
