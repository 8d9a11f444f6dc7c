"""The streaming job: in a process of its own, to be stopped, killed and started again; or by the tests' own Spark."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from stack.command import Command
from stack.process import free_port
from streaming.main import RunOptions, stream
from streaming.metrics import Metrics
from tests.builders.pipeline import Pipeline


def running(environment: Mapping[str, str], log: Path, *options: str, verb: str = "run") -> Command:
    """A running `retail-mart run …` (or another verb), killed at the block's end, however the test goes."""
    settings = {**environment, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    return Command("cli", verb, *options, log=log, environment=settings)


def catch_up(spark, pipeline: Pipeline, **changes) -> dict[str, int]:
    """Apply and land all that is on the topic now, by the tests' own Spark; the number of batches of each query."""
    settings = pipeline.settings.model_copy(update=changes)
    return stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


@contextmanager
def in_thread(
    spark, pipeline: Pipeline, only: Literal["apply", "land"] | None = None, **changes
) -> Iterator[tuple[Future, threading.Event]]:
    """The job, run by the tests' own Spark, with other settings; the future has what became of it."""
    stopping = threading.Event()
    settings = pipeline.settings.model_copy(update={"landing_trigger_seconds": 1, **changes})
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(stream, spark, settings, RunOptions(only=only, warm_up_rounds=0), stopping)
        try:
            yield job, stopping
        finally:
            stopping.set()


@contextmanager
def streaming_job(pipeline: Pipeline, spark) -> Iterator[int]:
    """The job, run by the tests' own Spark, with its metrics on the port that is given."""
    settings = pipeline.settings.model_copy(update={"metrics_port": free_port(), "landing_trigger_seconds": 1})
    stopping = threading.Event()
    metrics = Metrics(settings)
    with metrics.serving(), ThreadPoolExecutor(1) as pool:
        job = pool.submit(stream, spark, settings, RunOptions(warm_up_rounds=0), stopping, metrics)
        try:
            yield settings.metrics_port
        finally:
            stopping.set()
            job.result(timeout=60)
