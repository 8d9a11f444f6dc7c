"""Soak: what it judges as growing, and what it writes; without servers."""

from __future__ import annotations

import csv
import os

import pandas as pd
import psutil
import pytest

from bench.soak import memory
from bench.soak_report import (
    CUSTOMER,
    FLAT_TABLES,
    GROWING_TABLES,
    Soak,
    draw,
    memory_windows,
    verdicts,
    windows,
    write_csv,
)

HALF_AN_HOUR = 1800
MEGABYTES = {
    "driver_jvm": 1000, "driver_python": 300, "broker": 400, "postgres": 50, "shared_buffers": 200, "database": 500
}  # fmt: skip


def soak(growth=None, p99=(500.0, 550.0)) -> Soak:
    """Half an hour in which nothing grows but what `growth` names: field or table → MB an hour."""
    growth = growth or {}
    samples = []
    for seconds in range(0, HALF_AN_HOUR + 1, 10):
        more = {name: rate * seconds / 3600 for name, rate in growth.items()}
        tables = {
            f"{name} {what}": value
            for name in (CUSTOMER, *FLAT_TABLES, *GROWING_TABLES)
            for what, value in (("MB", 1 + more.get(name, 0)), ("rows", 10), ("dead", 3))
        }
        values = {name: value + more.get(name, 0) for name, value in MEGABYTES.items()}
        files = 30 + int(more.get("checkpoint_files", 0))
        samples.append({"seconds": seconds, **values, "checkpoint_files": files, "processor": 1.5, **tables})
    minutes = pd.DataFrame(
        [(minute, 60_000, 300.0, 500.0) for minute in range(30)], columns=["minute", "invoices", "p50", "p99"]
    )
    return Soak(HALF_AN_HOUR, samples, minutes, p99)


def not_met(found: Soak) -> list[str]:
    return [v.what for v in verdicts(found) if not v.is_met]


def test_a_steady_line_meets_every_verdict():
    assert not_met(soak()) == []


@pytest.mark.parametrize(
    ("growing", "verdict"),
    [
        ("driver_jvm", "memory, MB: driver, JVM and Python"),
        ("driver_python", "memory, MB: driver, JVM and Python"),
        ("broker", "memory, MB: broker"),
        ("postgres", "memory, MB: PostgreSQL, no shared buffers"),
        ("checkpoint_files", "checkpoints, files"),
        (CUSTOMER, "table customer, bytes a row"),
        *((name, f"table {name}, MB") for name in FLAT_TABLES),
    ],
)
def test_what_grows_is_found(growing, verdict):
    assert not_met(soak({growing: 600})) == [verdict]


def test_what_grows_with_the_data_may_grow():
    assert not_met(soak(dict.fromkeys((*GROWING_TABLES, "database", "shared_buffers"), 600))) == []


def test_growth_is_told_by_its_slope():
    [found] = [v for v in verdicts(soak({"broker": 60})) if v.what == "memory, MB: broker"]
    assert found.is_met
    assert found.late == "428 (+60.0/h)"


@pytest.mark.parametrize(("p99", "is_met"), [((500, 600), True), ((500, 601), False), (None, False)])
def test_latency_at_the_end_is_held_against_minute_5(p99, is_met):
    assert (not_met(soak(p99=p99)) == []) == is_met


def test_windows_are_minutes_3_to_7_and_the_last_5_or_thirds_of_a_short_run():
    assert windows(HALF_AN_HOUR) == ((180, 420), (1500, 1800))
    assert windows(180) == ((60, 120), (120, 180))


def test_memory_is_judged_from_minute_10_on_when_the_jvms_are_warm():
    assert memory_windows(HALF_AN_HOUR) == ((600, 900), (1500, 1800))
    assert memory_windows(900) == windows(900)


def test_csv_files_and_picture(tmp_path):
    measured = soak()
    write_csv(measured, tmp_path)
    with (tmp_path / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(measured.samples)
    assert rows[0].keys() == measured.samples[0].keys() >= {"seconds", "driver_jvm", "invoice MB", "invoice dead"}
    assert [rows[1][key] for key in ("seconds", "driver_jvm")] == ["10", "1000"]
    assert (tmp_path / "latency.csv").read_text().splitlines()[1] == "0,60000,300.000,500.000"
    draw(measured, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_memory_of_a_process_that_is_gone_is_none():
    own, shared = memory([psutil.Process(os.getpid())])
    assert own > 10
    assert shared >= 0
    gone = psutil.Popen(["true"])
    gone.wait()
    assert memory([gone]) == (0, 0)
