"""The PromQL of deploy/prometheus and deploy/grafana, and the metrics and labels that it speaks of."""

from __future__ import annotations

import json
from typing import Any

import promql_parser
import yaml

from tests.builders.files import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
OF_PROMETHEUS = {"up", "ALERTS"}  # made by Prometheus itself
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def alert_rules() -> dict[str, dict[str, Any]]:
    """The rules of alerts.yml by name."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard() -> dict[str, Any]:
    return json.loads((GRAFANA / "dashboards" / "retail_mart.json").read_text())


def expressions() -> dict[str, str]:
    """Every expression, by where it stands."""
    found = {f"alert {name}": rule["expr"] for name, rule in alert_rules().items()}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            found[f"panel {panel['title']} {target['refId']}"] = expression
    return found


def metrics_of(expression: str) -> dict[str, set[str]]:
    """Name of each metric that is selected → labels that the expression needs of it. ValueError if it is no PromQL."""
    found: dict[str, set[str]] = {}
    _walk(promql_parser.parse(expression), set(), found)
    return found


def _walk(node: Any, grouped: set[str], found: dict[str, set[str]]) -> None:
    if isinstance(node, promql_parser.VectorSelector):
        matched = {matcher.name for matcher in node.matchers.matchers}
        found.setdefault(node.name, set()).update(grouped | matched)
        return
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        grouped = grouped | set(node.modifier.labels)
    for part in ("expr", "lhs", "rhs", "vector_selector", "args"):
        value = getattr(node, part, None)
        for child in value if isinstance(value, list) else [value]:
            if child is not None:
                _walk(child, grouped, found)
