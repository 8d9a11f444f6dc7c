"""The streaming job: Kafka → parse → clean → apply → PostgreSQL, and Kafka → parse → land → Delta beside it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import structlog
from pyspark.sql import SparkSession

from conf.settings import Settings
from jvm.class_archive import class_archive_options, keep_class_archive
from jvm.session import spark_session
from streaming.apply_job import ApplyJob, cleaning
from streaming.job import Job, RunOptions
from streaming.land_job import LandJob
from streaming.metrics import serving
from streaming.stop_signals import stop_signals
from streaming.warm_up import warm_up

__all__ = ["RunOptions", "run", "stream"]

log = structlog.get_logger()
_JOBS: tuple[type[Job], ...] = (ApplyJob, LandJob)
_NAME = "streaming"  # of its class archive
_POLL_SECONDS = 0.5


def run(settings: Settings, options: RunOptions) -> None:
    """Start Spark and run the job until the end of the topic (`available_now`) or until SIGTERM or SIGINT.

    Raises what `stream` raises.
    """
    settings.require_kafka()
    if options.only != "land":
        settings.require_mart()
    start = time.perf_counter()
    with serving(settings):
        spark = spark_session("retail-mart streaming", _with_a_slot_for_landing(settings, options), _spark_options())
        with stop_signals() as stopping:
            log.info("spark started", version=spark.version, seconds=round(time.perf_counter() - start, 1))
            if options.warm_up_rounds and options.only != "land" and not stopping.is_set():
                log.info("warmed up", seconds=round(warm_up(spark, cleaning(settings), options.warm_up_rounds), 1))
            try:
                batches = stream(spark, settings, options, stopping)
                keep_class_archive(spark, _NAME)
            finally:
                spark.stop()
    log.info("stopped", batches=batches)


def stream(spark: SparkSession, settings: Settings, options: RunOptions, stopping: threading.Event) -> dict[str, int]:
    """Apply and land the topic until its end (`available_now`) or until `stopping` is set; returns the committed
    batches of each query.

    A query that cannot go on stops the other one after its running batch: neither falls silent. Raises what stopped
    it: StreamingError when an operator has something to do; AwayError when Kafka, PostgreSQL or the lake stayed away
    for longer than OUTAGE_PATIENCE_SECONDS.
    """
    jobs = [job(settings, options, stopping) for job in _JOBS if options.only in (None, job.name)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = {pool.submit(job.run, spark): job for job in jobs}
        try:
            pending = set(running)
            while pending:  # in short waits: a signal's handler runs only between them
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                for ended in done:
                    failure = ended.exception()
                    if failure is not None:
                        log.error(
                            "query ended", query=running[ended].name, reason=f"{type(failure).__name__}: {failure}"
                        )
                        raise failure
        finally:
            if pending:
                stopping.set()
    return {job.name: job.committed_batches for job in jobs}


def _spark_options() -> dict[str, str]:
    return {
        "spark.scheduler.mode": "FAIR",
        "spark.scheduler.allocation.file": (Path(__file__).parents[1] / "conf" / "fairscheduler.xml").as_uri(),
        # The driver plans small batches, and Python works on the rows: the JVM's second compiler takes more processor
        # time than it saves here, most of it in the first minutes. And G1 lets garbage grow to the whole heap, where
        # the serial collector stays near what lives.
        "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 {class_archive_options(_NAME)}",
    }


def _with_a_slot_for_landing(settings: Settings, options: RunOptions) -> Settings:
    """On this machine alone, a slot more than cores: landing's one task never keeps apply waiting for a slot."""
    if options.only is not None or settings.spark_master != "local[*]":
        return settings
    return settings.model_copy(update={"spark_master": f"local[{(os.cpu_count() or 1) + 1}]"})
