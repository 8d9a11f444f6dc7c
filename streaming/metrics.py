"""Metrics of the streaming job for Prometheus: always counted, served where METRICS_PORT says."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from conf.settings import Settings, SettingsError
from streaming.apply import Applied
from streaming.lag import Lag
from streaming.land import Landed
from streaming.reject_reason import RejectReason

log = structlog.get_logger()
LATENCY_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

_batches = Counter("mart_batches", "Micro-batches committed to the mart.")
_invoices = Counter("mart_invoices", "Invoices applied to the mart.")
_duplicates = Counter("mart_duplicates", "Records whose invoice was applied before, with the same content.")
_rejected = Counter("mart_rejected", "Records quarantined, by reason.", ["reason"])
for _reason in RejectReason:  # at 0 from the start, so that the first one is an increase
    _rejected.labels(_reason.value)
_phase = Histogram(
    "mart_phase_seconds",
    "Time of one phase of a micro-batch.",
    ["phase"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_query_running = Gauge("mart_query_running", "1 while Spark runs the query, 0 while it waits for a server.", ["query"])
_last_batch = Gauge("mart_last_batch_timestamp_seconds", "When the last micro-batch was committed.")
_customers = Gauge("mart_segment_customers", "Customers in a segment.", ["segment"])
_landed_rows = Counter("mart_landed_rows", "Invoices landed in the lake.")
_last_landing = Gauge("mart_last_landing_timestamp_seconds", "When the lake took its last commit.")
_lake_version = Gauge("mart_lake_version", "Version of the lake that the last landing made.")


class Latencies(Collector):
    """A histogram that takes all records of a batch at once: a call a record would cost more than the applying."""

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
    """The lag, asked of the broker at each scrape: it must grow in the numbers while no batch comes, too."""

    def __init__(self) -> None:
        self.lag: Lag | None = None

    def collect(self) -> Iterator[Metric]:
        lag = self.lag
        found = None if lag is None else lag.by_partition()
        metric = GaugeMetricFamily(
            "mart_lag_records", "Records of the topic that are not applied yet.", labels=["partition"]
        )
        for partition, records in (found or {}).items():
            metric.add_metric([str(partition)], records)
        yield metric


latencies = Latencies()
lags = Lags()
REGISTRY.register(latencies)
REGISTRY.register(lags)


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Serve /metrics on METRICS_HOST:METRICS_PORT meanwhile; nothing at port 0. Raises SettingsError if the port cannot
    be taken."""
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        raise SettingsError(
            f"METRICS_PORT={settings.metrics_port} on METRICS_HOST={settings.metrics_host} cannot be used: "
            f"{error.strerror or error}. Choose another, or 0 for no metrics"
        ) from None
    log.info("metrics", url=f"http://{settings.metrics_host}:{settings.metrics_port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def query_running(query: str) -> Iterator[None]:
    """Show the query as running meanwhile; its health check reads this."""
    _query_running.labels(query).set(1)
    try:
        yield
    finally:
        _query_running.labels(query).set(0)


def count_applied(applied: Applied, now: datetime) -> None:
    """A committed batch."""
    _batches.inc()
    _invoices.inc(applied.invoices)
    _duplicates.inc(applied.duplicates)
    for reason, records in applied.rejected_by_reason.items():
        _rejected.labels(reason.value).inc(records)
    for phase, milliseconds in applied.milliseconds.items():
        _phase.labels(phase).observe(milliseconds / 1000)
    if applied.kafka_timestamps is not None:
        latencies.observe(applied.kafka_timestamps, now)
    _last_batch.set(now.timestamp())


def count_landed(landed: Landed, now: datetime) -> None:
    """A commit to the lake."""
    _landed_rows.inc(landed.rows)
    _lake_version.set(landed.version)
    _last_landing.set(now.timestamp())


def set_segments(customers: Mapping[str, int]) -> None:
    """Customers per segment, as the mart counts them now."""
    for segment, count in customers.items():
        _customers.labels(segment).set(count)
