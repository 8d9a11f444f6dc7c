"""Prometheus' and Grafana's files: by their own tools and models, and held to what the job really tells.

Grafana is not run here: the dashboard goes through Grafana's own model of it. promtool checks the rules where it is on
the PATH; Prometheus beside a job: tests/integration/test_prometheus.py. That the metrics have values and labels:
tests/integration/test_watch.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations

import grafana_foundation_sdk.cog.plugins as grafana_plugins
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import generate_latest

from conf.settings import Settings
from operations.alerts import CONDITIONS, Alert
from operations.prometheus_rules import prometheus_rules
from streaming.metrics import Metrics
from tests.builders.expressions import (
    GRAFANA,
    OF_PROMETHEUS,
    PROMETHEUS,
    alert_rules,
    dashboard,
    expressions,
    metrics_of,
)
from tests.builders.files import ROOT

EXPRESSIONS = expressions()
EXPOSITION = generate_latest(Metrics(Settings()).registry).decode()
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def exposed_names() -> set[str]:
    """The names of the samples that the job's exposition has, or would have as soon as there is something to tell."""
    types = re.findall(r"^# TYPE (\w+) (\w+)$", EXPOSITION, re.MULTILINE)
    return {
        name.removesuffix("_total") + suffix for name, kind in types if kind in SUFFIXES for suffix in SUFFIXES[kind]
    }


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_of_an_expression_is_told_by_the_job(where):
    asked = metrics_of(EXPRESSIONS[where])
    assert asked
    assert set(asked) - exposed_names() - OF_PROMETHEUS == set()


def test_every_metric_of_the_job_is_shown_or_alerted_of():
    asked = {name for expression in EXPRESSIONS.values() for name in metrics_of(expression)}
    also = ("_count", "_sum", "_created")
    ours = {name for name in exposed_names() if name.startswith("mart_") and not name.endswith(also)}
    not_shown = {"mart_phase_seconds_bucket", "mart_landing_phase_seconds_bucket", "mart_nightly_run_timestamp_seconds"}
    assert ours - asked == not_shown


def test_the_docs_name_every_metric_of_the_job():
    section = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"# TYPE (mart_\w+)", EXPOSITION))
    named = set(re.findall(r"`(mart_\w+)(?:\{\w+\})?`", section.split("`METRICS_PORT` serves")[1].split("\n## ")[0]))
    assert named - {"mart_batch"} == {name for name in told if not name.endswith("_created")}


NAMES = """
    mart_batches mart_disk_free_bytes mart_disk_size_bytes mart_duplicates mart_invoices mart_invoices_ahead
    mart_kafka_up mart_lag_records mart_lake_version mart_landed_rows mart_landing_phase_seconds
    mart_last_batch_timestamp_seconds mart_last_landing_timestamp_seconds mart_latency_seconds
    mart_latency_unknown mart_lock_wait_seconds mart_nightly_kept_back mart_nightly_published_timestamp_seconds
    mart_nightly_run_timestamp_seconds mart_open_transaction_seconds mart_phase_seconds mart_postgresql_up
    mart_query_running mart_rejected mart_scores_wrong mart_segment_customers process_cpu_seconds
    process_resident_memory_bytes process_start_time_seconds python_gc_collections python_info
"""


def test_the_names_are_those_that_others_rules_and_dashboards_know():
    told = {family.name for family in Metrics(Settings()).registry.collect()}
    assert {name for name in told if name.startswith("mart_")} <= set(NAMES.split()) <= told


def test_the_walk_finds_names_and_labels():
    found = metrics_of('sum by (le, phase) (rate(a_bucket{job="x"}[5m])) / on () (b - max(c offset 1h)) > 3 and d')
    assert found == {"a_bucket": {"le", "phase", "job"}, "b": set(), "c": set(), "d": set()}
    assert set(metrics_of("sum(increase(mart_renamed_total[5m])) > 0")) - exposed_names() == {"mart_renamed_total"}
    with pytest.raises(ValueError, match="parenthesis"):
        metrics_of("sum(rate(a[5m])")


def defaults(**other: float) -> Settings:
    """The settings of no environment."""
    return Settings.model_construct(**other)


class TestAlertRules:
    def test_there_is_one_for_each_alert_of_the_watch_and_one_more(self):
        names = {"".join(part.capitalize() for part in alert.split("_")) for alert in Alert}
        assert set(alert_rules()) == names | {"JobDown"}

    def test_they_are_whole(self):
        for name, rule in alert_rules().items():
            assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, name
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}
        for alert in Alert:
            annotations = alert_rules()["".join(part.capitalize() for part in alert.split("_"))]["annotations"]
            assert annotations["summary"].lower() == CONDITIONS[alert].title.lower()
            assert annotations["description"].endswith(CONDITIONS[alert].advice)

    def test_the_file_is_what_the_table_makes_with_the_default_limits(self):
        """After a change of the table: `make prometheus-rules`."""
        assert (PROMETHEUS / "alerts.yml").read_text() == prometheus_rules(defaults())

    def test_limits_are_those_of_the_settings(self):
        other = {
            "alert_stale_seconds": 77,
            "alert_lag_records": 123_456,
            "alert_reject_percent": 7.5,
            "alert_reject_minutes": 17,
            "alert_nightly_hours": 31,
            "alert_disk_free_percent": 13,
        }
        made = yaml.safe_load(prometheus_rules(defaults(**other)))["groups"][0]["rules"]
        expressions_of = {rule["alert"]: rule["expr"] for rule in made}
        limits = {
            "StreamStale": "> 77 or",
            "StreamHeld": "> 77",
            "LagHigh": "> 123456",
            "RejectsHigh": "> 7.5 and",
            "NightlyLate": "> 31",
            "DiskLow": "< 13",
        }
        for name, limit in limits.items():
            assert limit in expressions_of[name]
        assert set(re.findall(r"\[(\w+)\]", expressions_of["RejectsHigh"])) == {"17m"}

    def test_a_limit_of_zero_leaves_its_rule_out(self):
        off = defaults(**{condition.limit: 0 for condition in CONDITIONS.values() if condition.limit})
        left = {rule["alert"] for rule in yaml.safe_load(prometheus_rules(off))["groups"][0]["rules"]}
        assert left == {
            *(
                "JobDown",
                "BrokerUnreachable",
                "MartUnreachable",
                "StreamBlocked",
                "RecordsFailed",
                "InvoicesAhead",
                "ScoresWrong",
            ),
        }

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian's package `prometheus`)")
    @pytest.mark.parametrize(
        "arguments",
        [
            ["check", "config", str(PROMETHEUS / "prometheus.yml")],
            ["check", "rules", "--lint=all", "--lint-fatal", str(PROMETHEUS / "alerts.yml")],
            ["test", "rules", str(ROOT / "tests" / "conf" / "alerts_test.yml")],
        ],
    )
    def test_promtool_is_content(self, arguments):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_every_rule_has_a_unit_test(self):
        tested = (ROOT / "tests" / "conf" / "alerts_test.yml").read_text()
        assert [name for name in alert_rules() if name not in tested] == []

    def test_prometheus_asks_where_compose_serves_the_metrics(self):
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        [scrape] = config["scrape_configs"]
        assert (scrape["job_name"], scrape["static_configs"]) == ("streaming", [{"targets": ["streaming:9400"]}])
        assert config["rule_files"] == ["alerts.yml"]
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        served = services["streaming"]["environment"]
        assert (served["METRICS_PORT"], served["METRICS_HOST"]) == ("9400", "0.0.0.0")
        assert set(services["streaming"]["networks"]) & set(services["prometheus"]["networks"])


class TestDashboard:
    def test_grafanas_own_model_knows_every_field_of_it(self):
        """What its model does not know is lost on the way through it."""
        grafana_plugins.register_default_plugins()
        ours = dashboard()
        assert ours == _common(ours, json.loads(JSONEncoder().encode(Dashboard.from_json(ours))))
        ours["panels"][0]["fieldConfig"]["defaults"]["colour"] = "red"
        assert ours != _common(ours, json.loads(JSONEncoder().encode(Dashboard.from_json(ours))))

    def test_panels_have_a_place_of_their_own_and_say_what_they_show(self):
        panels = dashboard()["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"] in {"none", "short", "s", "ms", "percentunit"}
        for one, other in combinations((panel["gridPos"] for panel in panels), 2):
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert apart_x or apart_y

    def test_it_is_provisioned_with_its_data_source(self):
        sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
        known = {(source["type"], source["uid"]) for source in sources}
        for panel in dashboard()["panels"]:
            for asked in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
                assert (asked["type"], asked["uid"]) in known
        [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/retail_mart.yml").read_text())["providers"]
        grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
        mounted = dict(volume.removesuffix(":ro").split(":") for volume in grafana["volumes"])
        assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
        assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
        assert sources[0]["url"] == "http://prometheus:9090"


def _common(ours, theirs):
    """Ours, less what is not in theirs or differs there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {key: _common(value, theirs[key]) for key, value in ours.items() if key in theirs}
    if isinstance(ours, list) and isinstance(theirs, list):
        return [_common(one, other) for one, other in zip(ours, theirs, strict=False)]
    return theirs
