"""Command line of the torture: `python -m torture run`, `python -m torture mutants`."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.run import run_command
from torture.mutants import MUTANTS
from torture.red import baseline, red
from torture.scenarios import SCENARIOS, Outcome, Scale, SkippedError
from torture.world import TortureError, world

app = typer.Typer(
    help="Kill the line, cut it off, fill its disks and lie to it; then compare it with a plain oracle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_console = Console(highlight=False)
Seed = Annotated[int | None, typer.Option(help="Replays a run. [default: a new one, printed]", show_default=False)]


@app.command()
def run(
    seed: Seed = None,
    scenario: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(SCENARIOS)}.")] = None,
    path_kills: Annotated[int, typer.Option(min=1, help="Kills of the transaction path.")] = Scale.path_kills,
    job_kills: Annotated[int, typer.Option(min=1, help="Kills of the whole job, Spark and all.")] = Scale.job_kills,
    mutated: Annotated[int, typer.Option(min=1, help="Records changed by field and by byte.")] = Scale.mutated,
    short: Annotated[bool, typer.Option("--short", help="A few minutes in all: small numbers of everything.")] = False,
) -> None:
    """Play the scenarios on servers of their own, and compare mart and lake with the oracle after each.

    Exit code 0 if nothing differs, 5 if something does, 1 if a scenario could not be played.
    """
    unknown = set(scenario or []) - SCENARIOS.keys()
    if unknown:
        raise typer.BadParameter(f"no scenario {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    scale = Scale(path_kills=path_kills, job_kills=job_kills, mutated=mutated)
    if short:
        scale = Scale(12, 4, 3, 5, 10, 5_000, 2_000, mutated=5_000, big_records=100)
    seed = _seed(seed)
    played: dict[str, tuple[Outcome | str, float]] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="mart-torture-") as home, world(Path(home) / "home") as servers:
        for name in scenario or SCENARIOS:
            start = time.perf_counter()
            with _console.status(name):
                try:
                    outcome: Outcome | str = SCENARIOS[name](servers, seed, scale)
                except SkippedError as skipped:
                    outcome = f"skipped: {skipped}"
                except TortureError as error:
                    outcome, failed = f"not played: {error}", True
                servers.up()
            played[name] = (outcome, time.perf_counter() - start)
            _console.print(_line(name, *played[name]))
    _console.print(_table(played, seed))
    if failed:
        raise typer.Exit(1)
    if any(isinstance(outcome, Outcome) and outcome.differences for outcome, _ in played.values()):
        raise typer.Exit(5)


@app.command()
def mutants(
    seed: Seed = None,
    mutant: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(MUTANTS)}.")] = None,
) -> None:
    """Remove the guards one at a time: each must turn its scenario red, which is green with the guard in place.

    Exit code 0 if all do, 5 if one stays green.
    """
    unknown = set(mutant or []) - MUTANTS.keys()
    if unknown:
        raise typer.BadParameter(f"no mutant {', '.join(sorted(unknown))}: choose from {', '.join(MUTANTS)}")
    seed = _seed(seed)
    table = Table("guard", "without it", "its scenario", title=f"mutants, seed {seed}", title_justify="left")
    green = False
    with tempfile.TemporaryDirectory(prefix="mart-torture-") as home, world(Path(home) / "home") as servers:
        for name in mutant or MUTANTS:
            with _console.status(name):
                sound, broken = baseline(servers, name, seed), red(servers, name, seed)
            green = green or bool(sound) or not broken
            verdict = (
                f"[red]red[/]: {shorten(broken[0], 100, placeholder='…')}"
                if broken
                else "[yellow]GREEN: the guard is not tested[/]"
            )
            table.add_row(name, MUTANTS[name][0], f"NOT SOUND: {sound[0]}" if sound else verdict)
    _console.print(table)
    if green:
        raise typer.Exit(5)


def _seed(seed: int | None) -> int:
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    _console.print(f"seed {seed} (again: --seed {seed})")
    return seed


def _line(name: str, outcome: Outcome | str, seconds: float) -> str:
    if isinstance(outcome, str):
        return f"{name}: {outcome}"
    if not outcome.differences:
        return f"{name}: equal, {seconds:.0f} s"
    return "\n  ".join([f"[red]{name}: {len(outcome.differences)} differences[/]", *outcome.differences])


def _table(played: dict[str, tuple[Outcome | str, float]], seed: int) -> Table:
    table = Table(
        "scenario", "lives", "kills", "records", "seconds", "differences", title=f"torture, seed {seed}",
        title_justify="left",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    kills: Counter[str] = Counter()
    for name, (outcome, seconds) in played.items():
        if isinstance(outcome, str):
            table.add_row(name, "", "", "", f"{seconds:.0f}", outcome.split(":")[0])
            continue
        kills += outcome.kills
        table.add_row(
            name, f"{outcome.lives:,}", f"{outcome.kills.total():,}", f"{outcome.records:,}", f"{seconds:.0f}",
            f"{len(outcome.differences)}",
        )  # fmt: skip
    if kills:
        by_point = ", ".join(f"{count} {point}" for point, count in kills.most_common())
        table.caption, table.caption_justify = f"{kills.total()} kills: {by_point}", "left"
    return table


if __name__ == "__main__":
    run_command(app, "python -m torture")
