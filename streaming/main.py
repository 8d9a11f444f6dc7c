"""The streaming job: Kafka → parse → clean → apply → PostgreSQL, and in parallel Kafka → parse → land → Delta."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import structlog
from pyspark.sql import SparkSession

from conf.errors import StreamingError, UnavailableError
from conf.settings import Settings
from conf.stop_signals import stop_signals
from jvm.class_archive import class_archive_options, keep_class_archive
from jvm.session import spark_session
from streaming.apply_job import ApplyJob, cleaning
from streaming.job import RunOptions
from streaming.land_job import LandJob
from streaming.metrics import Metrics
from streaming.warm_up import warm_up

__all__ = ["RunOptions", "run", "stream"]

log = structlog.get_logger()
_JOBS: tuple[type[ApplyJob] | type[LandJob], ...] = (ApplyJob, LandJob)
_NAME = "streaming"  # of its class archive
_POLL_SECONDS = 0.5
_END_OF_JAVA = (
    "Spark's Java process has ended, exit code {exit_code} (52: it ran out of memory; -9: it was killed, perhaps "
    "because the machine did). Start the job again: what was not committed is read again. If it ends like this "
    "each time, a record does not fit into its memory: see `Large records` in docs/operations.md"
)
_END_SECONDS = 5  # the time Java takes to end after its connections are gone


def run(settings: Settings, options: RunOptions) -> None:
    """Start Spark and run the job until the end of the topic (`available_now`) or until SIGTERM or SIGINT.

    Whatever would end it at once, such as a missing topic, is found before Spark is started. Raises what `stream`
    raises.
    """
    settings.require_kafka()
    if options.only != "land":
        settings.require_mart()
    metrics = Metrics(settings)
    with metrics.serving():
        with stop_signals() as stopping:
            for job in _jobs(settings, options, stopping, metrics):
                job.check_patiently()
        if stopping.is_set():
            log.info("stopped", batches={})
            return
        start = time.perf_counter()
        spark = spark_session("retail-mart streaming", _with_a_slot_for_landing(settings, options), _spark_options())
        with stop_signals() as stopping:
            log.info("spark started", version=spark.version, seconds=round(time.perf_counter() - start, 1))
            if options.warm_up_rounds and options.only != "land" and not stopping.is_set():
                log.info("warmed up", seconds=round(warm_up(spark, cleaning(settings), options.warm_up_rounds), 1))
            try:
                batches = stream(spark, settings, options, stopping, metrics)
                _unless_java_has_ended(spark, partial(keep_class_archive, spark, _NAME))
            finally:
                _unless_java_has_ended(spark, spark.stop)
    log.info("stopped", batches=batches)


def stream(
    spark: SparkSession,
    settings: Settings,
    options: RunOptions,
    stopping: threading.Event,
    metrics: Metrics | None = None,
) -> dict[str, int]:
    """Apply and land the topic until its end (`available_now`) or until `stopping` is set; returns the committed
    batches of each query.

    A query that cannot continue also stops the other one after its running batch, so that neither goes silent. Raises
    whatever stopped it: StreamingError if an operator must act; UnavailableError if Kafka, PostgreSQL or the lake was
    unavailable for longer than OUTAGE_PATIENCE_SECONDS.
    """
    jobs = _jobs(settings, options, stopping, metrics or Metrics(settings))
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = {pool.submit(job.run, spark): job for job in jobs}
        try:
            pending = set(running)
            while pending:  # in short waits: a signal's handler runs only between them
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                for ended in done:
                    failure = ended.exception()
                    if failure is not None and not isinstance(failure, StreamingError | UnavailableError):
                        exit_code = _java_exit_code(spark)
                        # A service manager sends SIGTERM to every process, so Java may end first.
                        if exit_code is not None and stopping.is_set():
                            log.info("spark's java ended first", query=running[ended].name, exit_code=exit_code)
                            continue
                        if exit_code is not None:
                            failure = StreamingError(_END_OF_JAVA.format(exit_code=exit_code))
                    if failure is not None:
                        log.error("query ended", query=running[ended].name, error=type(failure).__name__)
                        raise failure
        finally:
            if pending:
                stopping.set()
    return {job.name: job.committed_batches for job in jobs}


def _jobs(
    settings: Settings, options: RunOptions, stopping: threading.Event, metrics: Metrics
) -> list[ApplyJob | LandJob]:
    return [job(settings, options, stopping, metrics) for job in _JOBS if options.only in (None, job.name)]


def _java_exit_code(spark: SparkSession) -> int | None:
    """Of Spark's Java process, if it has ended, or does so now: then what fails is whatever spoke to it next."""
    started = getattr(spark.sparkContext._gateway, "proc", None)
    if started is None:  # under spark-submit it has started us, and takes us with it
        return None
    try:
        return int(started.wait(_END_SECONDS))
    except subprocess.TimeoutExpired:
        return None


def _unless_java_has_ended(spark: SparkSession, step: Callable[[], None]) -> None:
    try:
        step()
    except Exception:
        if _java_exit_code(spark) is None:
            raise


def _spark_options() -> dict[str, str]:
    return {
        "spark.scheduler.mode": "FAIR",
        "spark.scheduler.allocation.file": Path(__file__).with_name("fairscheduler.xml").as_uri(),
        # The driver plans small batches, and Python works on the rows: the JVM's second compiler takes more processor
        # time than it saves here, most of it in the first minutes. And G1 lets garbage grow to the whole heap, where
        # the serial collector stays near what lives.
        "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 {class_archive_options(_NAME)}",
    }


def _with_a_slot_for_landing(settings: Settings, options: RunOptions) -> Settings:
    """On this machine, one slot more than there are cores: landing's one task never makes apply wait for a slot."""
    if options.only is not None or settings.spark_master != "local[*]":
        return settings
    return settings.model_copy(update={"spark_master": f"local[{(os.cpu_count() or 1) + 1}]"})
