"""Tables, figures and losses, from results that are made up here."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from bench import report
from bench.report import COLUMNS, PARTS, PICTURES, losses, measured, render, summary, table
from bench.results import Part, Row, load, save


def part(name: str, *rows: Row) -> Part:
    return Part(name, list(rows), "make bench", "2026-01-01 00:00 UTC", 60.0, "2 cores", 0.1, {"Python": "3.11"})


CATCH_UP = part(
    "catch-up",
    Row("1,000 lines", "ours", {"seconds": 30.0, "warm_lines_per_second": 900.0, "peak_mb": 1000, "crash": "nothing"}),
    Row("1,000 lines", "quick", {"seconds": 10.0, "warm_lines_per_second": 100.0, "peak_mb": 990}),
    Row("1,000 lines", "absent", note="not installed: it"),
    Row("1,000 lines", "bad", wrong="1 customers missing"),
)
SCORES = part(
    "scores",
    Row("10 customers", "ours, by cuts", {"ms": 5.0}),
    Row("10 customers", "other", {"ms": 2.0}),
    Row("20 customers", "ours, by cuts", {"ms": 6.0}),
    Row("20 customers", "other", {"ms": 60.0}),
)


def test_a_table_has_a_row_a_way_and_says_what_is_wrong():
    lines = table(CATCH_UP).splitlines()
    assert lines[0] == "1,000 lines:"
    assert lines[2].startswith("| way | seconds, start included | lines/s once it writes | peak memory, MB |")
    assert "| **ours** | 30.0 | 900 | 1,000 | nothing |" in lines
    assert "| bad (2) | – | – | – | – |" in lines
    assert "(1) absent, 1,000 lines: not installed: it  " in lines
    assert "(2) bad, 1,000 lines: **wrong**: 1 customers missing  " in lines


def test_a_table_of_several_cases_names_each_once():
    lines = table(SCORES).splitlines()
    assert lines[2:] == [
        "| 10 customers | **ours, by cuts** | 5 |",
        "|  | other | 2 |",
        "| 20 customers | **ours, by cuts** | 6 |",
        "|  | other | 60 |",
    ]


def test_the_summary_shows_the_best_and_the_worst_of_the_others():
    others = [Row("UCI", way, {"seconds": seconds}) for way, seconds in (("slow", 9.0), ("fast", 1.0), ("mean", 3.0))]
    wrong = Row("UCI", "wrong", wrong="1 rules missing")
    text = summary({"rules": part("rules", Row("UCI", "ours", {"seconds": 2.0}), *others, wrong), "scores": SCORES})
    assert text.splitlines()[2:] == [
        "| rules, UCI: baskets → rules, s | **2.00** | 1.00 (fast) | 9.00 (slow) |",
        "| scores, 10 customers: ms a batch | **5** | 2 (other) | – |",
        "| scores, 20 customers: ms a batch | **6** | 60 (other) | – |",
    ]


def test_parts_of_two_machines_are_told_apart():
    elsewhere = replace(SCORES, machine="4 cores", started_at="2026-01-02 00:00 UTC")
    text = measured({"catch-up": CATCH_UP, "scores": elsewhere})
    assert text.splitlines()[::2] == [
        "Machine (catch-up): 2 cores. Broker, database and every way share it.",
        "Measured: 2026-01-01 00:00 UTC, 1 minutes in all; load before each part: catch-up 0.1.",
        "Machine (scores): 4 cores. Broker, database and every way share it.",
        "Measured: 2026-01-02 00:00 UTC, 1 minutes in all; load before each part: scores 0.1.",
        "Versions: Python 3.11.",
    ]
    assert measured({"catch-up": CATCH_UP, "scores": SCORES}).startswith("Machine: 2 cores. ")


def test_losses_are_what_a_peer_does_better_by_a_tenth():
    found = losses({"catch-up": CATCH_UP, "scores": SCORES}).splitlines()
    assert [line.split(".")[0] for line in found if line.startswith("*")] == [
        # not the rate, where ours is better; not 1 % of memory
        "* **catch-up, seconds, start included**: quick 10",
        "* **scores, ms a batch**: other 2 against 5 (2",
    ]
    assert "quick 10.0 against 30.0 (3.0 times, 1,000 lines)." in found[0]


def test_every_contest_has_a_reason_for_a_loss():
    reasons = tomllib.loads(report.REASONS.read_text())
    contests = {(name, c.key) for name in PARTS for c in COLUMNS[name] if c.better}
    assert contests == {(name, key) for name, of_part in reasons.items() for key in of_part}


def test_an_unexplained_loss_is_refused(monkeypatch, tmp_path):
    (tmp_path / "reasons.toml").write_text('[scores]\nms = "because"\n')
    monkeypatch.setattr(report, "REASONS", tmp_path / "reasons.toml")
    assert losses({"scores": SCORES}).endswith("other 2 against 5 (2.5 times, 10 customers). because")
    with pytest.raises(KeyError, match="why we lose at catch-up, seconds: to quick"):
        losses({"catch-up": CATCH_UP})


def test_the_report_is_made_from_kept_results_alone(tmp_path):
    growth = part("growth-rules", *(Row(f"{n}", "ours", {"itemsets": n, "mine_seconds": 0.1}) for n in (10, 100)))
    rates = part(
        "freshness",
        *(Row(f"{rate} invoices/s", way, {"p50_ms": 200.0, "p99_ms": 400.0}) for rate in (100, 1000) for way in "ab"),
        Row("3000 invoices/s", "a", {"behind_per_second": 500.0}),
    )
    for one in (CATCH_UP, SCORES, growth, rates):
        save(tmp_path / "results", one)
    parts = load(tmp_path / "results")
    assert parts == {one.name: one for one in (CATCH_UP, SCORES, growth, rates)}
    text = render(parts, tmp_path).read_text()
    assert "make bench" in text.splitlines()[0]
    assert "2 cores" in text
    assert "2026-01-01" in text
    assert "Python 3.11" in text
    assert table(CATCH_UP) in text
    assert "{{" not in text
    assert "Not measured." in text, "of the parts that were not"
    drawn = {path.stem for path in (tmp_path / "benchmarks").glob("*.png")}
    assert drawn == parts.keys() & PICTURES.keys()
    assert "| **ours** | 1,000 |" in text
