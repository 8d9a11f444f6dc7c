"""Metrics of the streaming job for Prometheus: always counted, served where METRICS_PORT says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg2.extensions import connection as Connection  # noqa: N812

from conf.phases import Phases
from conf.postgres import FAILURES
from conf.settings import Settings, SettingsError
from mart.connection import connect_to_read
from mart.reject_reason import RejectReason
from mart.status import Nightly, RunStatus, count_segments, disks, read_last_batch, read_nightly, read_wrong_scores
from streaming.apply import Applied
from streaming.lag import Lag
from streaming.land import Landed
from streaming.scraped import Scraped

log = structlog.get_logger()
LATENCY_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_PHASE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LANDING_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PATIENCE_SECONDS = 2  # a scrape waits for the mart no longer than this


class Metrics:
    """What one run of the job counts and what is asked for at each scrape, in a registry of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._batches = counter("mart_batches", "Micro-batches committed to the mart.")
        self._invoices = counter("mart_invoices", "Invoices applied to the mart.")
        self._duplicates = counter(
            "mart_duplicates", "Records whose invoice was applied before, with the same content."
        )
        self._rejected = counter("mart_rejected", "Records quarantined, by reason.", ["reason"])
        for reason in RejectReason:  # at 0 from the start, so that the first one is an increase
            self._rejected.labels(reason.value)
        self._ahead = counter(
            "mart_invoices_ahead", "Invoices applied whose date is later than PostgreSQL's clock by more than a day."
        )
        self._latency_unknown = counter(
            "mart_latency_unknown",
            "Records without a latency: their Kafka timestamp is no moment, or is later than this clock.",
        )
        self._phase = histogram(
            "mart_phase_seconds", "Time of one phase of a micro-batch.", ["phase"], buckets=_PHASE_BOUNDS
        )
        self._query_running = gauge(
            "mart_query_running", "1 while Spark runs the query, 0 while it waits for a server.", ["query"]
        )
        self._landing_phase = histogram(
            "mart_landing_phase_seconds", "Time of one phase of a landing batch.", ["phase"], buckets=_LANDING_BOUNDS
        )
        self._landed_rows = counter("mart_landed_rows", "Invoices landed in the lake.")
        self._last_landing = gauge("mart_last_landing_timestamp_seconds", "When the lake took its last commit.")
        self._lake_version = gauge("mart_lake_version", "Version of the lake that the last landing made.")
        self.lock_wait = gauge(
            "mart_lock_wait_seconds", "How long the job has waited for a lock in PostgreSQL; from 10 s on, else 0."
        )
        self._latencies, self._lags, self._mart = Latencies(), Lags(), MartState(settings)
        for collector in (self._latencies, self._lags, self._mart, Disks(settings)):
            registry.register(collector)
        for of_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_process(registry=registry)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve /metrics on METRICS_HOST:METRICS_PORT during the block; nothing if the port is 0. Raises SettingsError
        if the port is not available."""
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if not port:
            yield
            return
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise SettingsError(
                f"METRICS_PORT={port} on METRICS_HOST={host} cannot be used: {error.strerror or error}. Choose "
                "another, or 0 for no metrics"
            ) from None
        log.info("metrics", url=f"http://{host}:{port}/metrics")
        try:
            yield
        finally:
            self._mart.close()
            server.shutdown()
            server.server_close()
            thread.join()

    @contextmanager
    def query_running(self, query: str) -> Iterator[None]:
        """Report the query as running during the block; its health check reads this."""
        self._query_running.labels(query).set(1)
        try:
            yield
        finally:
            self._query_running.labels(query).set(0)

    def follow(self, lag: Lag | None) -> None:
        """Report this lag from now on, and close the previous one. None: report none."""
        before, self._lags.lag = self._lags.lag, lag
        if before is not None:
            before.close()

    def count_applied(self, applied: Applied, phases: Phases, now: datetime) -> None:
        """A committed batch."""
        self._batches.inc()
        self._invoices.inc(applied.invoices)
        self._ahead.inc(applied.ahead_of_clock)
        self._duplicates.inc(applied.duplicates)
        for reason, records in applied.rejected_by_reason.items():
            self._rejected.labels(reason.value).inc(records)
        for phase, seconds in phases.seconds.items():
            self._phase.labels(phase).observe(seconds)
        self._latencies.observe(applied.kafka_timestamps, now)
        self._latency_unknown.inc(applied.records - len(applied.kafka_timestamps))

    def count_landed(self, landed: Landed, phases: Phases, now: datetime) -> None:
        """A commit to the lake."""
        self._landed_rows.inc(landed.rows)
        for phase, seconds in phases.seconds.items():
            self._landing_phase.labels(phase).observe(seconds)
        self._lake_version.set(landed.version)
        self._last_landing.set(now.timestamp())


class Latencies(Collector):
    """A histogram that takes all records of a batch at once: a call per record would cost more than applying them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = np.zeros(len(LATENCY_BOUNDS) + 1, dtype=np.int64)
        self._sum = 0.0

    def observe(self, kafka_timestamps: pa.ChunkedArray, now: datetime) -> None:
        """Count records by their age at `now` (aware)."""
        moments = kafka_timestamps.to_numpy().astype("datetime64[us]")
        seconds = (np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us") - moments) / np.timedelta64(1, "s")
        counts = np.bincount(np.searchsorted(LATENCY_BOUNDS, seconds), minlength=len(LATENCY_BOUNDS) + 1)
        with self._lock:
            self._counts += counts
            self._sum += float(seconds.sum())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            cumulative, total = np.cumsum(self._counts), self._sum
        bounds = [*(str(bound) for bound in LATENCY_BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "mart_latency_seconds",
            "From a record's Kafka timestamp to when it is visible in the mart.",
            buckets=list(zip(bounds, cumulative.tolist(), strict=True)),
            sum_value=total,
        )


class Lags(Collector):
    """The lag, asked of the broker at each scrape: it must keep growing while no batches come."""

    def __init__(self) -> None:
        self.lag: Lag | None = None

    def collect(self) -> Iterator[Metric]:
        lag = self.lag
        found = None if lag is None else lag.by_partition()
        up = GaugeMetricFamily("mart_kafka_up", "1 while the broker says where the topic ends, else 0.")
        if lag is not None:
            up.add_metric([], found is not None)
        yield up
        metric = GaugeMetricFamily(
            "mart_lag_records", "Records of the topic that are not applied yet.", labels=["partition"]
        )
        for partition, records in (found or {}).items():
            metric.add_metric([str(partition)], records)
        yield metric
        held = GaugeMetricFamily(
            "mart_open_transaction_seconds",
            "For how long a producer's open transaction has held back what is behind it; 0: none does.",
        )
        seconds = None if lag is None else lag.held_seconds()
        if seconds is not None:
            held.add_metric([], seconds)
        yield held


class MartState(Scraped, Collector):
    """What the mart knows, asked at each scrape: so it is right after a restart, and includes the nightly job, which
    runs no batches here."""

    failures = FAILURES

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._connection: Connection | None = None
        self._last_batch: datetime | None = None

    def collect(self) -> Iterator[Metric]:
        """Silence means unknown. While PostgreSQL is unavailable, the last batch is the last one known."""
        last_batch = GaugeMetricFamily("mart_last_batch_timestamp_seconds", "When the last micro-batch was committed.")
        segments = GaugeMetricFamily("mart_segment_customers", "Customers in a segment.", labels=["segment"])
        kept_back = GaugeMetricFamily(
            "mart_nightly_kept_back", "1 if the newest run of the nightly job was kept back by a guard, else 0."
        )
        ran = GaugeMetricFamily("mart_nightly_run_timestamp_seconds", "When the newest run was written.")
        published = GaugeMetricFamily(
            "mart_nightly_published_timestamp_seconds",
            "When rules were published last; before the first time, when the mart was made.",
        )
        wrong = GaugeMetricFamily("mart_scores_wrong", "Scores, cuts and totals that the newest check found wrong.")
        up = GaugeMetricFamily("mart_postgresql_up", "1 while the mart answers, else 0.")
        if self._settings.mart_dsn is not None:
            found = self.asked(self._ask)
            up.add_metric([], found is not None)
            if found is not None:
                counts, last_at, nightly, wrong_scores = found
                wrong.add_metric([], wrong_scores)
                self._last_batch = last_at or self._last_batch
                for segment, customers in counts.items():
                    segments.add_metric([segment], customers)
                kept_back.add_metric([], nightly.status == RunStatus.KEPT_BACK)
                published.add_metric([], nightly.waiting_since.timestamp())
                if nightly.run_at is not None:
                    ran.add_metric([], nightly.run_at.timestamp())
            if self._last_batch is not None:
                last_batch.add_metric([], self._last_batch.timestamp())
        yield from (up, last_batch, segments, kept_back, ran, published, wrong)

    def _ask(self) -> tuple[dict[str, int], datetime | None, Nightly, int]:
        if self._connection is None:
            self._connection = connect_to_read(self._settings.require_mart(), "retail-mart metrics", _PATIENCE_SECONDS)
        return (
            count_segments(self._connection),
            read_last_batch(self._connection, self._settings.kafka_topic)[0],
            read_nightly(self._connection),
            read_wrong_scores(self._connection),
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Disks(Collector):
    """The disks of lake and checkpoints, if they are folders of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("mart_disk_free_bytes", "Free space where a folder is.", labels=["folder"])
        size = GaugeMetricFamily("mart_disk_size_bytes", "Size of the disk that a folder is on.", labels=["folder"])
        for disk in disks(self._settings):
            free.add_metric([disk.folder], disk.free_bytes)
            size.add_metric([disk.folder], disk.size_bytes)
        yield from (free, size)
