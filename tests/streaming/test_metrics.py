"""Metrics as Prometheus scrapes them."""

from __future__ import annotations

import socket
import urllib.request
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import psycopg2
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from conf.phases import Phases
from conf.settings import Settings, SettingsError
from mart.reject_reason import RejectReason
from streaming import scraped
from streaming.apply import Applied
from streaming.land import Landed
from streaming.metrics import Latencies, MartState, Metrics
from tests.builders.applied import Mart, cleaned
from tests.builders.rule_runs import record_run

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
    latencies = Latencies()
    latencies.observe(ages(0.05, 0.1, 0.3, 0.3), NOW)
    latencies.observe(ages(4000), NOW)
    [family] = latencies.collect()
    found = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    assert found["mart_latency_seconds_bucket", "0.1"] == 2
    assert found["mart_latency_seconds_bucket", "0.2"] == 2
    assert found["mart_latency_seconds_bucket", "0.3"] == 4  # a bound is in its bucket
    assert found["mart_latency_seconds_bucket", "0.5"] == 4
    assert found["mart_latency_seconds_bucket", "1800.0"] == 4
    assert found["mart_latency_seconds_bucket", "+Inf"] == found["mart_latency_seconds_count", None] == 5
    assert found["mart_latency_seconds_sum", None] == pytest.approx(0.75 + 4000)


class KnownLag:
    def __init__(self, lag):
        self.lag = lag

    def by_partition(self):
        return self.lag

    def held_seconds(self):
        return None if self.lag is None else 12.5

    def close(self):
        self.closed = True


def took(**seconds: float) -> Phases:
    phases = Phases()
    phases.seconds.update(seconds)
    return phases


def test_a_batch_and_a_landing_are_scraped(tmp_path):
    port = free_port()
    metrics = Metrics(Settings(metrics_port=port, mart_home=tmp_path))
    metrics.follow(KnownLag({0: 7, 1: 0}))
    with metrics.serving():
        before = scrape(port)
        metrics.count_applied(
            Applied(
                records=9,
                invoices=5,
                ahead_of_clock=2,
                rejected_by_reason=Counter({RejectReason.NOT_JSON: 2, RejectReason.NO_LINES: 1}),
                kafka_timestamps=ages(*[0.2] * 7),
            ),
            took(parse=0.12, commit=0.004),
            NOW,
        )
        metrics.count_landed(Landed(rows=4, version=17), took(write=0.25), NOW)
        after = scrape(port)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["mart_batches_total", ()] == 1
    assert grown["mart_invoices_total", ()] == 5
    assert grown["mart_duplicates_total", ()] == 1
    assert grown["mart_invoices_ahead_total", ()] == 2
    assert grown["mart_rejected_total", (("reason", "not_json"),)] == 2
    assert ("mart_rejected_total", (("reason", "bad_date"),)) in before
    assert grown["mart_phase_seconds_count", (("phase", "parse"),)] == 1
    assert grown["mart_phase_seconds_sum", (("phase", "parse"),)] == pytest.approx(0.12)
    assert grown["mart_latency_seconds_count", ()] == 7
    assert grown["mart_latency_unknown_total", ()] == 2
    assert after["mart_lag_records", (("partition", "0"),)] == 7
    assert after["mart_open_transaction_seconds", ()] == 12.5
    assert after["mart_kafka_up", ()] == 1
    assert after["mart_lake_version", ()] == 17
    assert after["mart_last_landing_timestamp_seconds", ()] == NOW.timestamp()
    assert grown["mart_landing_phase_seconds_sum", (("phase", "write"),)] == pytest.approx(0.25)
    assert ("mart_postgresql_up", ()) not in after  # no mart is named: nothing is said of it
    for folder in ("lake", "checkpoint"):
        free = after["mart_disk_free_bytes", (("folder", folder),)]
        assert 0 <= free <= after["mart_disk_size_bytes", (("folder", folder),)]
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_query_is_shown_as_running_until_it_ends_or_fails():
    metrics = Metrics(Settings())

    def shown() -> float | None:
        return metrics.registry.get_sample_value("mart_query_running", {"query": "apply"})

    with suppress(ZeroDivisionError), metrics.query_running("apply"):
        assert shown() == 1
        raise ZeroDivisionError
    assert shown() == 0


def test_a_silent_broker_is_down_and_has_no_lag():
    metrics, silent = Metrics(Settings()), KnownLag(None)
    names = ("mart_kafka_up", "mart_lag_records", "mart_open_transaction_seconds")

    def found():
        shown = (family for family in metrics.registry.collect() if family.name in names)
        return {s.name: s.value for family in shown for s in family.samples}

    metrics.follow(silent)
    assert found() == {"mart_kafka_up": 0}
    metrics.follow(None)
    assert found() == {}
    assert silent.closed


@pytest.fixture
def mart(fresh_mart):
    mart = Mart(fresh_mart)
    yield mart
    mart.connection.close()


@pytest.mark.stack
def test_the_mart_is_asked_at_each_scrape_and_may_become_unavailable(mart, fresh_mart, monkeypatch):
    state = MartState(Settings(mart_dsn=fresh_mart.writer_dsn))

    def samples():
        found = {}
        for family in state.collect():
            for sample in family.samples:
                found[sample.name, sample.labels.get("segment")] = sample.value
        return found

    fresh = samples()
    assert fresh["mart_postgresql_up", None] == 1
    assert fresh["mart_segment_customers", "Champions"] == 0
    assert fresh["mart_nightly_kept_back", None] == 0
    [(made,)] = mart.rows("SELECT extract(epoch FROM min(applied_at))::float8 FROM public.migration")
    assert fresh["mart_nightly_published_timestamp_seconds", None] == pytest.approx(made)
    assert ("mart_last_batch_timestamp_seconds", None) not in fresh
    assert ("mart_nightly_run_timestamp_seconds", None) not in fresh

    mart.apply(*(cleaned(n, f"{n}", f"2025-03-0{n + 1}T10:00:00", f"c{n}", f"{n + 1}.00") for n in range(5)))
    record_run(mart.dsn, "published", hours_ago=30)
    record_run(mart.dsn, "kept back", hours_ago=6)
    later = samples()
    [(batch,)] = mart.rows("SELECT extract(epoch FROM max(applied_at))::float8 FROM mart.batch")
    assert later["mart_last_batch_timestamp_seconds", None] == pytest.approx(batch)
    assert later["mart_segment_customers", "Champions"] == 2
    assert later["mart_nightly_kept_back", None] == 1
    ran, published = (later[f"mart_nightly_{name}_timestamp_seconds", None] for name in ("run", "published"))
    assert ran - published == pytest.approx(24 * 3600, abs=5)

    with closing(psycopg2.connect(mart.dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER VIEW mart.nightly_status RENAME TO hidden")
    unavailable = samples()
    assert unavailable == {
        ("mart_postgresql_up", None): 0,
        ("mart_last_batch_timestamp_seconds", None): pytest.approx(batch),
    }
    with closing(psycopg2.connect(mart.dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER VIEW mart.hidden RENAME TO nightly_status")
    assert samples() == unavailable  # it is left in peace for some seconds
    with monkeypatch.context() as later_on:
        later_on.setattr(scraped.time, "monotonic", lambda: 1e9)
        assert samples() == later
    state.close()
    assert samples() == unavailable  # nobody is asked any more


def test_no_port_no_server_and_a_taken_port_is_told():
    with Metrics(Settings(metrics_port=0)).serving():
        pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=rf"METRICS_PORT={port} .* 0 for no metrics"),
            Metrics(Settings(metrics_port=port)).serving(),
        ):
            pass
