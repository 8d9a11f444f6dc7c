"""The benchmark: ours and its peers on the same data and machine in one run, and the report of it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated

import structlog
import typer
from deltalake import write_deltalake
from rich.console import Console

from bench.catch_up import catch_up
from bench.freshness import Plan, freshness
from bench.growth import by_support
from bench.lake import csv_invoices, landed
from bench.nightly import nightly
from bench.quintiles import scores
from bench.report import render
from bench.results import OURS, Part, Row, load, machine, now, save, versions
from bench.rules import IN_PYTHON, ON_SPARK, Case, prepare, rules
from bench.servers import Servers, Topic, servers
from bench.ways import WAYS, Way, version_of
from cli.run import run_command
from conf.lake import LAKE_PARTITION
from producer.generate import Options, generate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)
_ROOT = Path(__file__).parents[1]
_WRONG, _TERMINATED = 1, 143
_CONFIDENCE = Decimal("0.05")


class Name(StrEnum):
    catch_up = "catch-up"
    freshness = "freshness"
    scores = "scores"
    rules = "rules"
    nightly = "nightly"
    growth = "growth"


_PLAN = Plan((100, 1_000, 3_000), warm=6, seconds=12)


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `uci` are (support, most items) of UCI Online Retail, `shop` those of the made-up one."""

    lines: int = 1_000_000
    growth: tuple[int, ...] = (100_000, 300_000)
    plan: Plan = _PLAN
    customers: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    changed: int = 1_000
    batches: int = 10
    compared: int = 2
    uci: tuple[tuple[str, int | None], ...] = (("0.005", None), ("0.002", 3))
    shop: tuple[tuple[str, int | None], ...] = (("0.005", None),)
    supports: tuple[str, ...] = ("0.02", "0.01", "0.005", "0.003", "0.002")
    nightly: tuple[str, int] = ("0.005", 3)
    patience: float = 240
    rules_patience: float = 90
    ways: tuple[Way, ...] = WAYS
    rule_ways: tuple[str, ...] = (*ON_SPARK, *IN_PYTHON)


QUICK = Sizes(
    lines=8_000,
    growth=(2_000,),
    plan=Plan((100,), warm=1, seconds=3),
    customers=(1_000, 10_000),
    changed=100,
    batches=2,
    compared=1,
    uci=(),
    supports=("0.05", "0.02"),
    patience=240,
    rules_patience=240,
    ways=tuple(way for way in WAYS if not way.needs_spark),
    rule_ways=(OURS, *IN_PYTHON),
)
"""Small, and without the ways that would start a Spark of their own, but for the rules: to see that it all works."""
_IN_QUICK = [Name.catch_up, Name.freshness, Name.scores, Name.rules]


@dataclass
class Bench:
    """One run: what its parts share is made once, when the first of them needs it."""

    sizes: Sizes
    data: Path | None
    peers_python: Path | None
    scratch: Path
    stack: ExitStack
    topics: dict[int, Topic] = field(default_factory=dict)
    baskets: dict[str, int] = field(default_factory=dict)
    caught_up: list[Row] = field(default_factory=list)

    @cached_property
    def servers(self) -> Servers:
        return self.stack.enter_context(servers(self.scratch / "home", console))

    def say(self, text: str) -> None:
        console.print(f"[dim]{text}[/dim]", markup=True)

    def shop(self, lines: int) -> Path:
        folder = self.scratch / f"shop-{lines}"
        if not folder.is_dir():
            generate(Options(output=folder, lines=lines))
        return folder

    def topic(self, lines: int) -> Topic:
        if lines not in self.topics:
            self.topics[lines] = self.servers.filled_topic(f"shop-{lines}", self.shop(lines))
        return self.topics[lines]

    @cached_property
    def sources(self) -> dict[str, tuple[Path, str]]:
        """Name → its CSV files, and the lake that they would have landed in; UCI first, where it is given."""
        found = {f"shop of {self.sizes.lines:,} lines": self.shop(self.sizes.lines)}
        if self.data is not None:
            found = {"UCI Online Retail": self.data} | found
        lakes: dict[str, tuple[Path, str]] = {}
        for name, folder in found.items():
            lake = str(self.scratch / f"lake-{len(lakes)}")
            with console.status(f"{name}: writing its lake"):
                invoices = csv_invoices([folder])
                write_deltalake(lake, landed(invoices), partition_by=[LAKE_PARTITION])
                self.baskets[name] = prepare(invoices, self.scratch / f"baskets-{len(lakes)}")
            lakes[name] = (folder, lake)
        return lakes

    def case(self, name: str, support: str, max_items: int | None) -> Case:
        folder = self.scratch / f"baskets-{list(self.sources).index(name)}"
        return Case(name, folder, self.baskets[name], Decimal(support), _CONFIDENCE, max_items)

    def catch_up(self) -> dict[str, list[Row]]:
        topic = self.topic(self.sizes.lines)
        rows = catch_up(self.servers, topic, self.sizes.ways, self.peers_python, self.sizes.patience, self.say)
        self.caught_up = [row for row in rows if row.way == OURS]
        return {"catch-up": rows}

    def freshness(self) -> dict[str, list[Row]]:
        ways = [way for way in self.sizes.ways if "landing" not in way.name]
        return {"freshness": freshness(self.servers, self.sizes.plan, ways, self.peers_python, self.say)}

    def scores(self) -> dict[str, list[Row]]:
        sizes = self.sizes
        return {"scores": scores(sizes.customers, sizes.changed, sizes.batches, sizes.compared, self.say)}

    def rules(self) -> dict[str, list[Row]]:
        cases = [
            self.case(name, *asked)
            for name in self.sources
            for asked in (self.sizes.uci if name.startswith("UCI") else self.sizes.shop)
        ]
        return {"rules": rules(cases, self.sizes.rule_ways, self.scratch, self.sizes.rules_patience, self.say)}

    def nightly(self) -> dict[str, list[Row]]:
        name, (folder, lake) = next(iter(self.sources.items()))
        support, max_items = self.sizes.nightly
        return {"nightly": nightly(self.servers, name, folder, lake, 10_000, Decimal(support), max_items, self.say)}

    def growth(self) -> dict[str, list[Row]]:
        ours = next(way for way in WAYS if way.is_ours)
        rows = []
        for lines in (*self.sizes.growth, self.sizes.lines):
            topic = self.topic(lines)
            found = self.caught_up if lines == self.sizes.lines else []
            found = found or catch_up(self.servers, topic, [ours], None, self.sizes.patience, self.say)
            rows += [Row(r.case, r.way, {"lines": topic.lines, **r.figures}, r.note, r.wrong) for r in found]
        name = next(iter(self.sources))
        supports = [Decimal(support) for support in self.sizes.supports]
        case = self.case(name, self.sizes.supports[0], self.sizes.nightly[1])
        return {"growth-lines": rows, "growth-rules": by_support(case, supports, 1_000_000, self.say)}


@app.command()
def main(
    only: Annotated[
        list[Name] | None, typer.Option(help="This part alone; repeat for more. The others' results stay as they are.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, without the slow parts and ways: does it work?")
    ] = False,
    render_only: Annotated[
        bool, typer.Option("--render-only", help="Measure nothing: write the report anew from the kept results.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of UCI Online Retail by day, for rules, nightly and growth. [default: the made-up shop alone]",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    lines: Annotated[int | None, typer.Option(min=1_000, help="Lines of the made-up shop. [default: 1000000]")] = None,
    peers_python: Annotated[
        Path, typer.Option(help="Python with Quix Streams, Pathway and Bytewax; a peer that it lacks is left out.")
    ] = Path(".venv-peers/bin/python"),
    docs: Annotated[Path, typer.Option(help="Folder of benchmarks.md and of benchmarks/*.png.")] = Path("docs"),
    results: Annotated[
        Path | None, typer.Option(help="Folder of the results.", show_default="DOCS/benchmarks/results")
    ] = None,
) -> None:
    """Measure us and our peers, check every result, and write the report.

    Exit codes: 0 everything was measured and right, 1 some way's result was wrong (its row says what), 2 usage.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # so that servers and ways are stopped
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    kept = results or docs / "benchmarks" / "results"
    wrong = 0
    if not render_only:
        sizes = QUICK if quick else Sizes()
        if lines is not None:
            sizes = replace(sizes, lines=lines)
        python = peers_python.absolute() if peers_python.exists() else None
        with (
            tempfile.TemporaryDirectory(prefix="mart-bench-", ignore_cleanup_errors=True) as folder,
            ExitStack() as stack,
        ):
            bench = Bench(sizes, data and data.absolute(), python, Path(folder), stack)
            todo = only or (_IN_QUICK if quick else list(Name))
            for number, name in enumerate(todo, 1):
                console.rule(f"{number} of {len(todo)}: {name.value}")
                for part in _measured(bench, name, _command(data is not None, quick, lines)):
                    save(kept, part)
                    wrong += sum(row.wrong is not None for row in part.rows)
    parts = load(kept)
    if not parts:
        raise typer.BadParameter(f"no results in {kept}: run without --render-only first")
    console.print(f"{render(parts, docs)}: written")
    if wrong:
        console.print(f"[red]{wrong} results were wrong[/red]: see their rows", markup=True)
        raise typer.Exit(_WRONG)


def _measured(bench: Bench, name: Name, command: str) -> Iterator[Part]:
    load_before, started_at, start = os.getloadavg()[0], now(), time.perf_counter()
    found = getattr(bench, name.name)()
    seconds = (time.perf_counter() - start) / len(found)
    used = versions(("mlxtend", "pyfim", "rusket") if name in (Name.rules, Name.growth) else ())
    if name in (Name.catch_up, Name.freshness) and bench.peers_python:
        packages = [way.package for way in bench.sizes.ways if way.package]
        used |= {package: version_of(package, bench.peers_python) for package in packages}
    for part, rows in found.items():
        yield Part(part, rows, command, started_at, seconds, machine(), load_before, used)


def _command(with_data: bool, quick: bool, lines: int | None) -> str:
    """What makes all of these results anew."""
    arguments = (["--quick"] if quick else []) + ([f"--lines {lines}"] if lines is not None else [])
    return (
        "make bench"
        + (" DATA=uci-online-retail" if with_data else "")
        + (f' ARGS="{" ".join(arguments)}"' if arguments else "")
    )


if __name__ == "__main__":
    run_command(app, "python -m bench")
