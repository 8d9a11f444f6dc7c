"""Daily files: exactly as many lines, days and bytes as asked for."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from producer.csv_invoices import csv_files, read_invoices
from producer.generate import HEADER, OptionError, Options, Summary, generate


def rows(folder: Path) -> list[dict[str, str]]:
    """The lines of all files, by column."""
    found: list[dict[str, str]] = []
    for file in sorted(folder.iterdir()):
        with file.open(encoding="utf-8", newline="") as lines:
            found.extend(csv.DictReader(lines))
    return found


def make(folder: Path, **options: Any) -> Summary:
    return generate(Options(folder, **options))


def test_lines_alone(tmp_path: Path) -> None:
    summary = make(tmp_path, lines=5_001)
    found = rows(tmp_path)
    assert len(found) == summary.lines == 5_001
    per_day = Counter(r["InvoiceDate"][:10] for r in {r["Invoice"]: r for r in found}.values())
    assert sorted(per_day) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert [per_day[d] for d in sorted(per_day)][:-1] == [500, 500]
    assert summary.invoices == sum(per_day.values())
    assert summary.last_day == date(2024, 1, 3)


def test_days_alone(tmp_path: Path) -> None:
    summary = make(tmp_path, days=3, invoices_per_day=40, start_date=date(2024, 2, 28))
    assert [f.name for f in sorted(tmp_path.iterdir())] == [
        "transaksi_2024-02-28.csv", "transaksi_2024-02-29.csv", "transaksi_2024-03-01.csv",
    ]  # fmt: skip
    assert len({r["Invoice"] for r in rows(tmp_path)}) == summary.invoices == 120


@pytest.mark.parametrize("size", [{"days": 3}, {"lines": 5_001}, {"lines": 5_001, "days": 3}])
def test_until_a_last_day_is_the_same_shop_on_other_days(tmp_path: Path, size: dict[str, int]) -> None:
    summary = make(tmp_path / "until", **size, until=date(2024, 3, 1))
    assert (summary.first_day, summary.last_day) == (date(2024, 2, 28), date(2024, 3, 1))
    make(tmp_path / "from", **size, start_date=date(2024, 2, 28))
    until, since = (sorted((tmp_path / name).iterdir()) for name in ("until", "from"))
    assert [(f.name, f.read_bytes()) for f in until] == [(f.name, f.read_bytes()) for f in since]


@pytest.mark.parametrize(("lines", "days"), [(2_001, 7), (10, 10), (30, 7), (4_000, 2)])
@pytest.mark.parametrize("returns_share", [0.0, 0.2])
def test_lines_over_days(tmp_path: Path, lines: int, days: int, returns_share: float) -> None:
    make(tmp_path, lines=lines, days=days, returns_share=returns_share)
    files = sorted(tmp_path.iterdir())
    assert len(files) == days
    assert len(rows(tmp_path)) == lines
    if lines / days > 200:
        sizes = [len(f.read_text().splitlines()) - 1 for f in files]
        assert max(sizes) - min(sizes) < 30


def test_the_form_of_a_file(tmp_path: Path) -> None:
    make(tmp_path, days=2, invoices_per_day=200)
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(HEADER.encode() + b"\n")
        assert b'"' not in file.read_bytes()
        assert b"\r" not in file.read_bytes()
    found = rows(tmp_path)
    dates = [r["InvoiceDate"] for r in found]
    assert dates == sorted(dates)
    assert all("08:00:00" <= d[11:] <= "21:59:59" for d in dates)
    assert all(r["Price"].isdecimal() for r in found)
    assert all(r["Customer ID"] == "" or 12_000 <= int(r["Customer ID"]) <= 18_000 for r in found)
    assert not any(r["Invoice"].startswith("C") for r in found)
    assert {int(r["Quantity"]) > 0 for r in found if r["StockCode"] != "DISCOUNT"} == {True}


def test_a_share_of_anonymous_invoices(tmp_path: Path) -> None:
    make(tmp_path, days=20)
    invoices = {r["Invoice"]: r["Customer ID"] for r in rows(tmp_path)}
    assert len(invoices) == 10_000
    assert abs(sum(c == "" for c in invoices.values()) - 1_000) < 4 * 30  # σ = √(10,000 · 0.1 · 0.9) = 30


def test_returns(tmp_path: Path) -> None:
    make(tmp_path, days=4, returns_share=0.1)
    found = rows(tmp_path)
    returned = {r["Invoice"] for r in found if r["Invoice"].startswith("C")}
    assert 120 < len(returned) < 280
    goods = [r for r in found if r["StockCode"] != "DISCOUNT"]
    assert all((int(r["Quantity"]) < 0) == (r["Invoice"] in returned) for r in goods)


def test_what_is_written_is_what_replay_reads(tmp_path: Path) -> None:
    make(tmp_path, days=3, products=60, returns_share=0.05)
    read = []
    for file in csv_files([tmp_path]):
        invoices, rejects = read_invoices(file)
        assert rejects == []
        for i in invoices:
            for line in i.lines:
                read.append(
                    [
                        i.number, line.stock_code, line.description, str(line.quantity), i.date.isoformat(" "),
                        line.price, i.customer_id or "",
                    ]
                )  # fmt: skip
    assert read == [list(r.values()) for r in rows(tmp_path)]


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    options = ["--days", "2", "--products", "50", "--returns-share", "0.1"]
    for name, seed in (("a", "42"), ("b", "42"), ("c", "43")):
        command = [sys.executable, "-m", "cli", "generate", "--output", str(tmp_path / name)]
        subprocess.run([*command, *options, "--seed", seed], check=True, capture_output=True)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lines": 0}, r"--lines 0: give a number from 1"),
        ({"days": -1}, r"--days -1"),
        ({"invoices_per_day": 1_000_000}, r"--invoices-per-day 1000000"),
        ({"products": 6}, r"--products 6: give a number from 7"),
        ({"customers": 0}, r"--customers 0"),
        ({"seed": -1}, r"--seed -1"),
        ({"returns_share": 0.6}, r"--returns-share 0\.6"),
        ({"returns_share": float("nan")}, r"--returns-share nan"),
        ({"lines": 3, "days": 4}, r"--lines 3 over --days 4"),
        ({"lines": 300, "days": 4, "invoices_per_day": 5}, r"give two of the three"),
        ({"days": 2, "start_date": date(2099, 12, 31)}, r"must be in 1900\.\.2099"),
        ({"days": 1, "start_date": date(1899, 12, 31)}, r"must be in 1900\.\.2099"),
        ({"days": 2, "until": date(1900, 1, 1)}, r"--until 1900-01-01: .* must be in 1900\.\.2099"),
        ({"lines": 10_000_000_000, "invoices_per_day": 1}, r"must be in 1900\.\.2099"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options(tmp_path, **options)


def test_two_shops_do_not_mix(tmp_path: Path) -> None:
    make(tmp_path, days=3, invoices_per_day=5)
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"already holds 3 daily files"):
        make(tmp_path, days=1, invoices_per_day=5)
    generate(Options(tmp_path, days=1, invoices_per_day=5), overwrite=True)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["notes.csv", "transaksi_2024-01-01.csv"]
