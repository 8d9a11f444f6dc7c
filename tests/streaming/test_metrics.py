"""Metrics as Prometheus scrapes them."""

from __future__ import annotations

import socket
import urllib.request
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from conf.settings import Settings, SettingsError
from streaming import metrics
from streaming.apply import Applied
from streaming.land import Landed
from streaming.reject_reason import RejectReason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def scrape(port: int) -> dict[tuple[str, tuple], float]:
    """(name, labels) → value of each sample."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def ages(*seconds: float) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([NOW - timedelta(seconds=s) for s in seconds], pa.timestamp("us", "UTC"))])


def test_latencies_fall_into_buckets_by_hand():
    latencies = metrics.Latencies()
    latencies.observe(ages(0.05, 0.1, 0.3, 0.3), NOW)
    latencies.observe(ages(4000, -1), NOW)  # a producer's clock may be ahead
    [family] = latencies.collect()
    found = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    assert found["mart_latency_seconds_bucket", "0.1"] == 3
    assert found["mart_latency_seconds_bucket", "0.25"] == 3
    assert found["mart_latency_seconds_bucket", "0.5"] == 5
    assert found["mart_latency_seconds_bucket", "1800.0"] == 5
    assert found["mart_latency_seconds_bucket", "+Inf"] == found["mart_latency_seconds_count", None] == 6
    assert found["mart_latency_seconds_sum", None] == pytest.approx(0.75 + 4000 - 1)


def test_a_batch_a_landing_and_the_segments_are_scraped(monkeypatch):
    class KnownLag:
        def by_partition(self):
            return {0: 7, 1: 0}

    monkeypatch.setattr(metrics.lags, "lag", KnownLag())
    port = free_port()
    with metrics.serving(Settings(metrics_port=port)):
        before = scrape(port)
        metrics.count_applied(
            Applied(
                records=9,
                invoices=5,
                duplicates=1,
                rejected=3,
                milliseconds={"parse": 120.0, "commit": 4.0},
                rejected_by_reason=Counter({RejectReason.NOT_JSON: 2, RejectReason.NO_LINES: 1}),
                kafka_timestamps=ages(*[0.2] * 9),
            ),
            NOW,
        )
        metrics.count_landed(Landed(rows=4, version=17), NOW)
        metrics.set_segments({"Champions": 3, "At Risk": 0})
        after = scrape(port)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["mart_batches_total", ()] == 1
    assert grown["mart_invoices_total", ()] == 5
    assert grown["mart_duplicates_total", ()] == 1
    assert grown["mart_rejected_total", (("reason", "not_json"),)] == 2
    assert ("mart_rejected_total", (("reason", "bad_date"),)) in before
    assert grown["mart_phase_seconds_count", (("phase", "parse"),)] == 1
    assert grown["mart_phase_seconds_sum", (("phase", "parse"),)] == pytest.approx(0.12)
    assert grown["mart_latency_seconds_count", ()] == 9
    assert after["mart_last_batch_timestamp_seconds", ()] == NOW.timestamp()
    assert after["mart_segment_customers", (("segment", "Champions"),)] == 3
    assert after["mart_lag_records", (("partition", "0"),)] == 7
    assert after["mart_lake_version", ()] == 17
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_query_is_shown_as_running_until_it_ends_or_fails():
    def shown() -> float | None:
        return REGISTRY.get_sample_value("mart_query_running", {"query": "apply"})

    with suppress(ZeroDivisionError), metrics.query_running("apply"):
        assert shown() == 1
        raise ZeroDivisionError
    assert shown() == 0


def test_no_port_no_server_and_a_taken_port_is_told():
    with metrics.serving(Settings(metrics_port=0)):
        assert REGISTRY.get_sample_value("mart_batches_total") is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=rf"METRICS_PORT={port} .* 0 for no metrics"),
            metrics.serving(Settings(metrics_port=port)),
        ):
            pass
