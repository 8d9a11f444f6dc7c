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
_WRONG, _TERMINATED = 1, 143
_CONFIDENCE = Decimal("0.05")


class Name(StrEnum):
    catch_up = "catch-up"
    freshness = "freshness"
    scores = "scores"
    rules = "rules"
    nightly = "nightly"
    growth_lines = "growth-lines"
    growth_rules = "growth-rules"


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `uci` are (support, most items) of UCI Online Retail, `shop` those of the made-up one."""

    lines: int = 1_000_000
    growth: tuple[int, ...] = (100_000, 300_000)
    rates: tuple[int, ...] = (100, 1_000, 3_000)
    warm_seconds: int = 6
    rate_seconds: int = 12
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
    rates=(100,),
    warm_seconds=1,
    rate_seconds=3,
    customers=(1_000, 10_000),
    changed=100,
    batches=2,
    compared=1,
    uci=(),
    supports=("0.05", "0.02"),
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

    @cached_property
    def servers(self) -> Servers:
        return self.stack.enter_context(servers(self.scratch / "home", console))

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
    def sources(self) -> dict[str, tuple[Path, Path, int]]:
        """Name → its CSV files, the folder of its lake and baskets, and the baskets; UCI first, where it is given."""
        found = {"UCI Online Retail": self.data} if self.data is not None else {}
        found |= {f"shop of {self.sizes.lines:,} lines": self.shop(self.sizes.lines)}
        sources = {}
        for number, (name, data) in enumerate(found.items()):
            folder = self.scratch / f"source-{number}"
            with console.status(f"{name}: writing its lake"):
                invoices = csv_invoices([data])
                write_deltalake(folder / "lake", landed(invoices), partition_by=[LAKE_PARTITION])
                sources[name] = data, folder, prepare(invoices, folder)
        return sources

    def case(self, name: str, support: str, max_items: int | None) -> Case:
        _, folder, baskets = self.sources[name]
        return Case(name, folder, baskets, Decimal(support), _CONFIDENCE, max_items)

    def catch_up(self) -> Iterator[Row]:
        topic = self.topic(self.sizes.lines)
        return catch_up(self.servers, topic, self.sizes.ways, self.peers_python, self.sizes.patience)

    def freshness(self) -> Iterator[Row]:
        ways = [way for way in self.sizes.ways if "landing" not in way.name]
        plan = Plan(self.sizes.rates, self.sizes.warm_seconds, self.sizes.rate_seconds)
        return freshness(self.servers, plan, ways, self.peers_python)

    def scores(self) -> Iterator[Row]:
        return scores(self.sizes.customers, self.sizes.changed, self.sizes.batches, self.sizes.compared)

    def rules(self) -> Iterator[Row]:
        cases = [
            self.case(name, *asked)
            for name in self.sources
            for asked in (self.sizes.uci if name.startswith("UCI") else self.sizes.shop)
        ]
        return rules(cases, self.sizes.rule_ways, self.scratch, self.sizes.rules_patience)

    def nightly(self) -> Iterator[Row]:
        name, (data, folder, _) = next(iter(self.sources.items()))
        return nightly(self.servers, name, data, str(folder / "lake"), *self.sizes.nightly)

    def growth_lines(self) -> Iterator[Row]:
        for lines in (*self.sizes.growth, self.sizes.lines):
            topic = self.topic(lines)
            for row in catch_up(self.servers, topic, WAYS[:1], None, self.sizes.patience):
                yield replace(row, figures={"lines": topic.lines, **row.figures})

    def growth_rules(self) -> Iterator[Row]:
        supports = [Decimal(support) for support in self.sizes.supports]
        case = self.case(next(iter(self.sources)), self.sizes.supports[0], self.sizes.nightly[1])
        return by_support(case, supports)


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
                part = _measured(bench, name, _command(data is not None, quick, lines))
                save(kept, part)
                wrong += sum(row.wrong is not None for row in part.rows)
    parts = load(kept)
    if not parts:
        raise typer.BadParameter(f"no results in {kept}: run without --render-only first")
    console.print(f"{render(parts, docs)}: written")
    if wrong:
        console.print(f"[red]{wrong} results were wrong[/red]: see their rows", markup=True)
        raise typer.Exit(_WRONG)


def _measured(bench: Bench, name: Name, command: str) -> Part:
    load_before, started_at, start = os.getloadavg()[0], now(), time.perf_counter()
    rows = []
    for row in getattr(bench, name.name)():
        console.print(f"{name.value}, {row}", style="dim", markup=False)
        rows.append(row)
    cases = list(dict.fromkeys(row.case for row in rows))
    rows.sort(key=lambda row: cases.index(row.case))
    seconds = time.perf_counter() - start
    used = versions(("mlxtend", "pyfim", "rusket") if name is Name.rules else ())
    if name in (Name.catch_up, Name.freshness) and bench.peers_python:
        packages = [way.package for way in bench.sizes.ways if way.package]
        used |= {package: version_of(package, bench.peers_python) for package in packages}
    return Part(name.value, rows, command, started_at, seconds, machine(), load_before, used)


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
