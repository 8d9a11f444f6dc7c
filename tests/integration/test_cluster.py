"""The jobs on a Spark cluster: a standalone master and two workers, in client mode, with the results of one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyspark
import pytest

from batch_rules.main import RunOptions, run_in
from jvm import java_home, spark_jars
from stack.spark import Cluster, standalone_cluster
from tests.builders import lake_rows
from tests.builders.files import ROOT
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]
RUN = ("run", "--available-now", "--warm-up-rounds", "2", "--max-invoices-per-batch", "1000")
RULES = ("mine", "--business-date", "2025-12-31", "--window", "365d", "--support", "0.01", "--engine", "fpgrowth")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def environment(pipeline: Pipeline, **more: str) -> dict[str, str]:
    """As a user sets it for a cluster on this machine."""
    return {
        **pipeline.environment(),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_EXECUTOR_MEMORY": "512m",
        "SPARK_DRIVER_MEMORY": "600m",
        "COLUMNS": "200",
        **more,
    }


def run_on(cluster: Cluster, command: list[str], settings: dict[str, str], log: Path) -> list[dict]:
    """Run a job to its good end; the master's account of each worker when both were at work for one application."""
    at_work: list[dict] = []
    with log.open("wb") as out:
        job = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while job.poll() is None:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            state = cluster.state()
            if len(state["activeapps"]) == 1 and all(worker["coresused"] for worker in state["workers"]):
                at_work = state["workers"]
            time.sleep(0.2)
    finally:
        if job.poll() is None:
            job.kill()
            job.wait()
    assert job.returncode == 0, log.read_text()[-3000:]
    return at_work


def workers_that_ran_tasks(cluster: Cluster, application: str) -> int:
    """Workers whose executor of that application logged a task."""
    logs = cluster.work.glob(f"*/{application}/*/stderr")
    return sum("Running task" in log.read_text(errors="replace") for log in logs)


def newest_application(cluster: Cluster) -> str:
    return max(cluster.state()["completedapps"], key=lambda application: application["starttime"])["id"]


def current_rules(pipeline: Pipeline) -> list[tuple]:
    return rows(
        pipeline.mart.owner_dsn,
        "SELECT antecedent_names, consequent_names, support, confidence, lift"
        " FROM mart.market_basket_analysis ORDER BY 1, 2",
    )


def test_streaming_and_rules_on_two_workers(cluster, pipeline, spark, tmp_path):
    events = random_events(4000, customers=500, seed=60)
    for number in range(600):  # what is bought together: no rule comes from chance alone
        codes = [("A1", "B2"), ("C3", "D4"), ("A1", "B2", "E5")][number % 3]
        lines = [(code, 1, "2.50") for code in codes]
        events.append(event(f"T{number}", f"2025-11-{number % 28 + 1:02}", f"{number % 90}", *lines))
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    settings = environment(pipeline, SPARK_MASTER=cluster.master)

    streaming = [sys.executable, "-m", "cli", *RUN, "--master", cluster.master]
    at_work = run_on(cluster, streaming, environment(pipeline), tmp_path / "streaming.log")
    assert [worker["coresused"] for worker in at_work] == [1, 1]
    assert workers_that_ran_tasks(cluster, newest_application(cluster)) == 2
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    assert lake_rows.counts(pipeline.settings.lake) == (4600, 4600)

    rules = [sys.executable, "-m", "cli", *RULES]
    at_work = run_on(cluster, rules, settings, tmp_path / "rules.log")
    assert [worker["coresused"] for worker in at_work] == [1, 1]
    on_cluster = current_rules(pipeline)
    assert len(on_cluster) >= 6
    everything = RunOptions(
        date(2025, 12, 31), window_days=365, support=Decimal("0.01"), max_items=3, engine="fpgrowth"
    )
    run_in(spark, pipeline.settings, everything)  # the same on this machine alone
    [(runs,)] = rows(pipeline.mart.owner_dsn, "SELECT count(*) FROM mart.rule_run WHERE status = 'published'")
    assert runs == 2
    assert current_rules(pipeline) == on_cluster


def test_spark_submit_to_the_cluster(cluster, pipeline, tmp_path):
    events = random_events(1500, customers=200, seed=61)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    home = Path(pyspark.__file__).parent
    command = [
        str(home / "bin" / "spark-submit"),
        *("--master", cluster.master, "--jars", ",".join(map(str, spark_jars()))),
        *("--executor-memory", "512m", "--driver-memory", "600m", "cli/__main__.py", *RUN),
    ]
    settings = environment(pipeline, SPARK_HOME=str(home), JAVA_HOME=str(java_home()), PYSPARK_PYTHON=sys.executable)
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    at_work = run_on(cluster, command, settings, tmp_path / "submit.log")
    assert [worker["coresused"] for worker in at_work] == [1, 1]
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
