"""`python -m bench`: it measures, compares, keeps the results and writes the report."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from typer.testing import CliRunner

from bench.__main__ import Bench, app
from bench.results import Row, load


@pytest.fixture(autouse=True)
def _logs_and_signals_of_other_tests() -> Iterator[None]:
    """The command sets both for its process, which here is that of all tests."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    structlog.reset_defaults()


@pytest.mark.stack
@pytest.mark.spark
@pytest.mark.slow  # it starts servers of its own and each way in a process of its own: about 40 s
def test_a_quick_run_measures_and_reports(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--docs", str(tmp_path)], capture_output=True, text=True, timeout=800
    )
    assert run.returncode == 0, run.stdout + run.stderr
    parts = load(tmp_path / "benchmarks" / "results")
    assert set(parts) == {"catch-up", "freshness", "scores", "rules"}
    for part in parts.values():
        assert not [row for row in part.rows if row.wrong]
    plain = {name: next(row for row in parts[name].rows if "plain" in row.way) for name in ("catch-up", "freshness")}
    assert plain["catch-up"].figures["seconds"] > 0
    assert plain["freshness"].figures["samples"] > 0
    assert {row.way for row in parts["rules"].rows if row.figures.get("rules")} >= {"ours", "mlxtend", "rusket"}
    text = (tmp_path / "benchmarks.md").read_text()
    assert 'make bench ARGS="--quick"' in text.splitlines()[0]
    assert (tmp_path / "benchmarks" / "scores.png").exists()


def test_a_wrong_result_is_kept_without_a_time_and_fails_the_run(tmp_path, monkeypatch):
    rows = [Row("10 customers", "ours, by cuts", {"ms": 1.0}), Row("10 customers", "DuckDB", wrong="other scores")]
    monkeypatch.setattr(Bench, "scores", lambda _self: iter(rows))
    run = CliRunner().invoke(app, ["--only", "scores", "--docs", str(tmp_path)])
    assert run.exit_code == 1, run.output
    assert "1 results were wrong" in run.output
    assert load(tmp_path / "benchmarks" / "results")["scores"].rows == rows
    assert "**wrong**: other scores" in (tmp_path / "benchmarks.md").read_text()


def test_a_part_leaves_the_others_results_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(Bench, "scores", lambda _self: [Row("10 customers", "ours", {"ms": 1.0})])
    monkeypatch.setattr(Bench, "rules", lambda _self: [Row("UCI", "ours", {"seconds": 2.0})])
    for name in ("scores", "rules"):
        assert CliRunner().invoke(app, ["--only", name, "--docs", str(tmp_path)]).exit_code == 0
    assert set(load(tmp_path / "benchmarks" / "results")) == {"scores", "rules"}
    (tmp_path / "benchmarks.md").unlink()
    assert CliRunner().invoke(app, ["--render-only", "--docs", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "benchmarks.md").exists()


def test_there_is_nothing_to_render(tmp_path):
    run = CliRunner().invoke(app, ["--render-only", "--docs", str(tmp_path)])
    assert run.exit_code == 2
    assert "run without --render-only first" in run.output.replace("│", "").replace("\n", " ")
