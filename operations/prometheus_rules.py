"""Prometheus' rules: the alerts of operations.alerts, with the limits in the settings, as a rules file."""

from __future__ import annotations

import json

from conf.settings import Settings
from operations.alerts import CONDITIONS, Condition

# The alert about the job when it serves no metrics.
_JOB_DOWN = Condition(
    title="the streaming job serves no metrics",
    advice="Start it again, or see its METRICS_PORT.",
    asks=(),
    limit=None,
    severity="critical",
    expr='up{{job="streaming"}} == 0',
    holds="1m",
    found="{instance} is unavailable.",
)
_TEMPLATES = {
    "value": "{{ $value }}",
    "tenths": '{{ printf "%.1f" $value }}',
    "folder": "{{ $labels.folder }}",
    "instance": "{{ $labels.instance }}",
}


def prometheus_rules(settings: Settings) -> str:
    """The rules file, without alerts that the settings turn off (a limit of 0)."""
    named = {"JobDown": _JOB_DOWN}
    named |= {"".join(part.capitalize() for part in alert.split("_")): of for alert, of in CONDITIONS.items()}
    rules = [
        _rule(name, condition, settings)
        for name, condition in named.items()
        if condition.limit is None or getattr(settings, condition.limit)
    ]
    return (
        "# The alerts of `retail-mart watch` and JobDown, made of operations/alerts.py with the settings' limits by\n"
        "# `retail-mart watch --prometheus-rules` (with their defaults: `make prometheus-rules`).\n"
        "groups:\n  - name: retail-mart\n    rules:\n"
    ) + "\n".join(rules)


def _rule(name: str, condition: Condition, settings: Settings) -> str:
    def filled(text: str) -> str:
        return json.dumps(text.format(**vars(settings), **_TEMPLATES), ensure_ascii=False)

    lines = [
        f"      - alert: {name}",
        f"        expr: {filled(condition.expr)}",
        *([f"        for: {condition.holds}"] if condition.holds else []),
        f"        labels: {{severity: {condition.severity}}}",
        "        annotations:",
        f"          summary: {filled(condition.title[0].upper() + condition.title[1:])}",
        f"          description: {filled(condition.found + ' ' + condition.advice)}",
    ]
    return "\n".join(lines) + "\n"
