"""Command line of the torture: `python -m torture run`, `python -m torture mutants`."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer
from rich.console import Console

from cli.run import run_command
from conf.counted import counted
from conf.terminal import Table, number, prose
from stack.command import CommandError
from torture.mutants import MUTANTS
from torture.red import baseline, red
from torture.scenarios import SCENARIOS, play
from torture.story import Outcome, Scale, SkippedError
from torture.world import World, world

app = typer.Typer(
    help="Kill the pipeline, cut it off, fill its disks and lie to it; then compare it with a plain oracle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_console = Console(highlight=False)
_SHORT = Scale(12, 4, 3, 5, 10, 5_000, 2_000, mutated=5_000, big_records=100)
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
    scale = _SHORT if short else Scale(path_kills=path_kills, job_kills=job_kills, mutated=mutated)
    table = Table("scenario", *map(number, ("lives", "kills", "records", "seconds", "differences")))
    kills: Counter[str] = Counter()
    codes = {0}
    with _playing(seed, _known(scenario, SCENARIOS), table) as (servers, seed, names):
        for name in names:
            start = time.perf_counter()
            try:
                outcome = play(servers, name, seed, scale)
            except (SkippedError, CommandError) as error:
                skipped = isinstance(error, SkippedError)
                codes.add(0 if skipped else 1)
                _console.print(f"{name}: {'skipped' if skipped else 'not played'}: {error}", markup=False)
                outcome = Outcome()
                verdict = "skipped" if skipped else "not played"
            else:
                codes.add(5 if outcome.differences else 0)
                verdict = f"{len(outcome.differences)}"
                _console.print(
                    "\n  ".join([f"{name}: {counted(len(outcome.differences), 'difference')}", *outcome.differences]),
                    markup=False,
                )
            servers.up()
            kills += outcome.kills
            seconds = time.perf_counter() - start
            figures = (outcome.lives, outcome.kills.total(), outcome.records, seconds)
            table.add(name, *(f"{figure:,.0f}" for figure in figures), verdict)
    _console.print(_by_point(kills))
    raise typer.Exit(1 if 1 in codes else max(codes))


@app.command()
def mutants(
    seed: Seed = None,
    mutant: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(MUTANTS)}.")] = None,
) -> None:
    """Remove the guards one at a time: each must turn its story red, which is green with the guard in place.

    Exit code 0 if all do, 5 if one stays green.
    """
    table = Table("guard", prose("without it"), prose("its story"))
    caught = True
    with _playing(seed, _known(mutant, MUTANTS), table) as (servers, seed, names):
        for name in names:
            sound, broken = baseline(servers, name, seed), red(servers, name, seed)
            caught = caught and not sound and bool(broken)
            verdict = f"red: {shorten(broken[0], 100)}" if broken else "GREEN: the guard is not tested"
            table.add(name, MUTANTS[name][0], f"NOT SOUND: {sound[0]}" if sound else verdict)
    raise typer.Exit(0 if caught else 5)


def _known(asked: Sequence[str] | None, names: Collection[str]) -> Collection[str]:
    if unknown := set(asked or []) - set(names):
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    return asked or names


@contextmanager
def _playing(seed: int | None, names: Collection[str], table: Table) -> Iterator[tuple[World, int, Iterator[str]]]:
    """The servers, the seed, and the names, each shown while it is played; then the table."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    _console.print(f"seed {seed} (again: --seed {seed})")

    def one_by_one() -> Iterator[str]:
        for name in names:
            with _console.status(name):
                yield name

    with tempfile.TemporaryDirectory(prefix="mart-torture-") as home, world(Path(home) / "home") as servers:
        yield servers, seed, one_by_one()
    _console.print(table)


def _by_point(kills: Counter[str]) -> str:
    return f"{counted(kills.total(), 'kill')}: " + ", ".join(f"{count} {point}" for point, count in kills.most_common())


if __name__ == "__main__":
    run_command(app, "python -m torture")
