"""Debian's Prometheus beside a running job: it scrapes, our rules load, and an alert fires and clears by them."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.command import wait_until
from stack.process import free_port
from tests.builders.expressions import PROMETHEUS, alert_rules
from tests.builders.job import streaming_job
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, send

pytestmark = [
    pytest.mark.stack,
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here (Debian's package `prometheus`)"),
]


class Prometheus:
    """A running server, asked by its API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=5):
                return True
        except OSError:  # refused, reset, or not ready yet
            return False

    def ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.address}/api/v1/{what}", timeout=10) as answer:
            return json.load(answer)["data"]

    def targets(self) -> list[tuple[str, str]]:
        """(job, health) of all that it scrapes."""
        return [(t["labels"]["job"], t["health"]) for t in self.ask("targets")["activeTargets"]]

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        return {a["labels"]["alertname"] for a in self.ask("alerts")["alerts"] if a["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, metrics_port: int) -> Iterator[Prometheus]:
    """Prometheus with our own configuration, but for where the job is and how often it is asked."""
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(PROMETHEUS / name) for name in configuration["rule_files"]]
    [scraped] = configuration["scrape_configs"]
    scraped["static_configs"] = [{"targets": [f"127.0.0.1:{metrics_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    server = Prometheus(port := free_port())
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or server.ready(), 60, "Prometheus is ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_an_alert_fires_and_clears(pipeline: Pipeline, spark, tmp_path):
    with streaming_job(pipeline, spark) as port, prometheus(tmp_path, port) as server:
        wait_until(lambda: server.targets() == [("streaming", "up")], 60, "the job is scraped")
        wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()), 30, "each rule was evaluated")
        assert {rule["name"] for rule in server.rules()} == set(alert_rules())
        assert server.firing() == set()
        # Two looks before the counters move: an increase needs a before.
        wait_until(
            lambda: len(server.ask("query?query=mart_rejected_total[1m]")["result"][0]["values"]) > 1,
            120,
            "two samples",
        )

        send(pipeline.bootstrap_servers, pipeline.topic, [(b"k", b"no invoice")] * 10)
        wait_until(lambda: server.firing() == {"RejectsHigh"}, 60, "the alert fires")

        good = [event(f"{500000 + n}", "2025-03-01", f"{12000 + n}") for n in range(400)]
        send(pipeline.bootstrap_servers, pipeline.topic, encode(good))
        wait_until(lambda: server.firing() == set(), 60, "the alert is over")
