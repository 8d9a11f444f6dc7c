"""Metrics of the streaming job for Prometheus: always counted, served where METRICS_PORT says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg2.extensions import connection as Connection  # noqa: N812

from conf.postgres import FAILURES
from conf.settings import Settings, SettingsError
from mart.connection import connect_to_read
from mart.reject_reason import RejectReason
from mart.status import Nightly, RunStatus, count_segments, disks, read_last_batch, read_nightly
from streaming.apply import Applied
from streaming.lag import Lag
from streaming.land import Landed

log = structlog.get_logger()
LATENCY_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_PATIENCE_SECONDS = 2  # who scrapes waits for the mart no longer, and while it is unavailable not each time
_RETRY_SECONDS = 10

_batches = Counter("mart_batches", "Micro-batches committed to the mart.")
_invoices = Counter("mart_invoices", "Invoices applied to the mart.")
_duplicates = Counter("mart_duplicates", "Records whose invoice was applied before, with the same content.")
_rejected = Counter("mart_rejected", "Records quarantined, by reason.", ["reason"])
for _reason in RejectReason:  # at 0 from the start, so that the first one is an increase
    _rejected.labels(_reason.value)
_ahead = Counter(
    "mart_invoices_ahead", "Invoices applied whose date is later than PostgreSQL's clock by more than a day."
)
_latency_unknown = Counter(
    "mart_latency_unknown",
    "Records without a latency: their Kafka timestamp is no moment, or is later than this clock.",
)
_phase = Histogram(
    "mart_phase_seconds",
    "Time of one phase of a micro-batch.",
    ["phase"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_query_running = Gauge("mart_query_running", "1 while Spark runs the query, 0 while it waits for a server.", ["query"])
_landing_phase = Histogram(
    "mart_landing_phase_seconds",
    "Time of one phase of a landing batch.",
    ["phase"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
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


class MartState(Collector):
    """What the mart says at each scrape: it is true after a restart, too, and the nightly job makes no batch here."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._last_batch: datetime | None = None
        self._silent_until = 0.0

    def collect(self) -> Iterator[Metric]:
        """Silence means: not known. While PostgreSQL is unavailable, the last batch is the last one that was heard
        of."""
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
        up = GaugeMetricFamily("mart_postgresql_up", "1 while the mart answers, else 0.")
        with self._lock:
            settings, found = self.settings, self._ask()
            if found is not None:
                counts, last_at, nightly = found
                self._last_batch = last_at or self._last_batch
                for segment, customers in counts.items():
                    segments.add_metric([segment], customers)
                kept_back.add_metric([], nightly.status == RunStatus.KEPT_BACK)
                published.add_metric([], nightly.waiting_since.timestamp())
                if nightly.run_at is not None:
                    ran.add_metric([], nightly.run_at.timestamp())
            if settings is not None:
                up.add_metric([], found is not None)
            if self._last_batch is not None:
                last_batch.add_metric([], self._last_batch.timestamp())
        yield from (up, last_batch, segments, kept_back, ran, published)

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self._disconnect()
            self.settings = self._last_batch = None

    def _ask(self) -> tuple[dict[str, int], datetime | None, Nightly] | None:
        if self.settings is None or time.monotonic() < self._silent_until:
            return None
        try:
            if self._connection is None:
                dsn = self.settings.require_mart()
                self._connection = connect_to_read(dsn, "retail-mart metrics", _PATIENCE_SECONDS)
            return (
                count_segments(self._connection),
                read_last_batch(self._connection, self.settings.kafka_topic)[0],
                read_nightly(self._connection),
            )
        except FAILURES as error:
            log.debug("mart's state unknown", reason=" ".join(str(error).split()))
            self._silent_until = time.monotonic() + _RETRY_SECONDS
            self._disconnect()
            return None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Disks(Collector):
    """The disks of lake and checkpoints, as far as they are folders of this machine."""

    def __init__(self) -> None:
        self.settings: Settings | None = None

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("mart_disk_free_bytes", "Free space where a folder is.", labels=["folder"])
        size = GaugeMetricFamily("mart_disk_size_bytes", "Size of the disk that a folder is on.", labels=["folder"])
        for disk in disks(self.settings) if self.settings is not None else ():
            free.add_metric([disk.folder], disk.free_bytes)
            size.add_metric([disk.folder], disk.size_bytes)
        yield from (free, size)


latencies = Latencies()
lags = Lags()
mart_state = MartState()
disk_space = Disks()
for _collector in (latencies, lags, mart_state, disk_space):
    REGISTRY.register(_collector)


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
    disk_space.settings = settings
    mart_state.settings = settings if settings.mart_dsn else None
    try:
        yield
    finally:
        disk_space.settings = None
        mart_state.close()
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
    _ahead.inc(applied.ahead_of_clock)
    _duplicates.inc(applied.duplicates)
    for reason, records in applied.rejected_by_reason.items():
        _rejected.labels(reason.value).inc(records)
    for phase, milliseconds in applied.milliseconds.items():
        _phase.labels(phase).observe(milliseconds / 1000)
    telling = applied.kafka_timestamps
    if telling is not None:
        latencies.observe(telling, now)
    _latency_unknown.inc(applied.records - (0 if telling is None else len(telling)))


def count_landed(landed: Landed, now: datetime) -> None:
    """A commit to the lake."""
    _landed_rows.inc(landed.rows)
    for phase, milliseconds in landed.milliseconds.items():
        _landing_phase.labels(phase).observe(milliseconds / 1000)
    _lake_version.set(landed.version)
    _last_landing.set(now.timestamp())
