"""The live table of the demo, at the width of a usual terminal."""

from __future__ import annotations

import io
from datetime import datetime
from decimal import Decimal

import pytest
from rich.console import Console

from conf.segments import segments
from demo.watch import Screen, Snapshot

NAMES = [segment.name for segment in segments()]


def snapshot(at: float, customers: list[int]) -> Snapshot:
    spent = Decimal("1012612388700.00")
    counts = {name: (count, spent) for name, count in zip(NAMES, customers, strict=True)}
    newest = datetime(2024, 2, 14, 20, 41)
    return Snapshot(at, 22_274, 0, 0, 123_456, newest, Decimal(322), Decimal(12_633), counts)


def drawn(width: int, *snapshots: Snapshot) -> list[str]:
    screen = Screen("Rp")
    tables = [screen.draw(one) for one in snapshots]
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(tables[-1])
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_segments_of_other_sizes_have_other_bars_at_every_width(width):
    sizes = [1_020 - 140 * at for at in range(len(NAMES))]
    lines = drawn(width, snapshot(0, sizes))
    assert max(map(len, lines)) <= width
    bars = [next(line for line in lines if line.startswith(f" {name} ")).count("█") for name in NAMES]
    assert len(set(bars)) == len(NAMES)
    assert bars == sorted(bars, reverse=True)
    assert all("…" not in line for line in lines), "cropped"


def test_a_change_is_that_of_the_seconds_that_the_legend_names():
    few, some, many = ([count] + [10] * (len(NAMES) - 1) for count in (100, 150, 160))
    lines = drawn(80, snapshot(0, few), snapshot(4, some), snapshot(9, many))
    assert "+10" in next(line for line in lines if NAMES[0] in line), "not the 60 of nine seconds"
    assert any("in the last 5 s" in line for line in lines)
    assert any("spent, Rp" in line for line in lines)
