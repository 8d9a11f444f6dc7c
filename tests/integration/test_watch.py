"""The watch on a real pipeline: one alert and one recovery each, over its restart; and the job's metrics."""

from __future__ import annotations

import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stack.command import wait_until
from tests.builders.expressions import LABELS_OF_PROMETHEUS, OF_PROMETHEUS, expressions, metrics_of
from tests.builders.job import running, streaming_job
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, random_events, send
from tests.builders.rule_runs import record_run
from tests.builders.sinks import Sinks, listening

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]

STALE, BEHIND = "retail-mart: the stream has stalled", "retail-mart: the stream is far behind"
OVER = {f"retail-mart: resolved: {subject.removeprefix('retail-mart: ')}" for subject in (STALE, BEHIND)}


def wait_for_looks(pipeline: Pipeline, count: int) -> None:
    """Until the watch has looked so many times more."""
    state = pipeline.settings.mart_home / "watch.json"
    for _ in range(count):
        before = state.read_text()
        wait_until(lambda before=before: state.read_text() != before, 120, "another look")


def subjects(sinks: Sinks) -> list[str]:
    return [mail["Subject"] for mail in sinks.mails]


def samples(port: int) -> dict[str, set[str]]:
    """Name of each sample with a value → its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def missing(port: int) -> set[str]:
    """Metrics and labels that the alert rules and the dashboard ask for, and the job does not tell."""
    told = samples(port)
    lacking = set()
    for expression in expressions().values():
        for name, labels in metrics_of(expression).items():
            if name not in OF_PROMETHEUS:
                lacking |= {name} if name not in told else labels - told[name] - LABELS_OF_PROMETHEUS
    return lacking


def test_one_alert_and_one_recovery_whatever_is_restarted(pipeline: Pipeline, spark, tmp_path):
    with listening() as sinks:
        environment = {
            **pipeline.environment(),
            **sinks.environment,
            "ALERT_STALE_SECONDS": "2",
            "ALERT_LAG_RECORDS": "100",
            "ALERT_DISK_FREE_PERCENT": "0",  # the machine's disk is none of this test's business
        }
        record_run(pipeline.mart.owner_dsn, "published", hours_ago=1)
        with running(environment, tmp_path / "first", "--every", "1", verb="watch") as watch:
            watch.wait_for('"event": "watching"')
            wait_until((pipeline.settings.mart_home / "watch.json").exists, 120, "the first look")
            assert (sinks.mails, sinks.slack_texts) == ([], [])  # nothing to tell of an empty pipeline
            send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(300, customers=50, seed=21)))
            wait_until(lambda: len(sinks.mails) + len(sinks.slack_texts) == 4, 120, "two alerts by two channels")
            wait_for_looks(pipeline, 2)
            assert watch.stop() == 0
        with running(environment, tmp_path / "second", "--every", "1", verb="watch") as watch:
            wait_for_looks(pipeline, 2)
            assert sorted(subjects(sinks)) == sorted([STALE, BEHIND])

            with streaming_job(pipeline, spark) as port:
                wait_until(
                    lambda: len(sinks.mails) + len(sinks.slack_texts) == 8, 120, "two recoveries by two channels"
                )
                wait_until(lambda: missing(port) == set(), 120, f"the metrics {missing(port)}")
                wait_for_looks(pipeline, 3)
            assert watch.stop() == 0
        assert len(sinks.mails) == len(sinks.slack_texts) == 4
        assert set(subjects(sinks)[:2]) == {STALE, BEHIND}
        assert set(subjects(sinks)[2:]) == OVER
        assert [text.splitlines()[0] for text in sinks.slack_texts] == [f"*{subject}*" for subject in subjects(sinks)]
        assert sinks.refused == []
        found = next(mail.get_content() for mail in sinks.mails if mail["Subject"] == BEHIND)
        assert "300 records not applied; the limit is 100" in found
    state = json.loads((pipeline.settings.mart_home / "watch.json").read_text())
    assert (state["firing"], state["told"]) == ({}, {"log": {}, "email": {}, "slack": {}})
    told = "".join((tmp_path / name).read_text() for name in ("first", "second"))
    assert told.count('"event": "alert"') == 4
    assert "Traceback" not in told
