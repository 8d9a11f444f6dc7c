"""Command line of Metabase as code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from conf.settings import SettingsError, settings
from dashboards.cards import CardError, cards

if TYPE_CHECKING:
    from dashboards.metabase.plan import Change

app = typer.Typer(
    help="Metabase as code: the cards as questions on a dashboard, through Metabase's REST API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)
_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "archive": ("-", "red")}
_DIFFERENT, _AWAY = 3, 4


@app.command()
def apply() -> None:
    """Bring Metabase to what the cards say: account, database, rights, questions, dashboard.

    Run again, it changes nothing. All users may read the collection; it and SQL of one's own on the mart's database are
    for administrators.

    Waits for a Metabase that is starting. A fresh one is set up with METABASE_ADMIN_EMAIL and
    METABASE_ADMIN_PASSWORD, or with a generated password, kept in MART_HOME/metabase.json; METABASE_API_KEY is for one
    that is set up. A question whose card is gone is archived; other people's questions are left alone. Exit codes: 0
    done, 1 an operator has something to do, 2 usage, 4 Metabase does not answer.
    """
    from dashboards.metabase.main import apply as apply_cards

    with _clear_errors():
        applied = apply_cards(settings(), cards(), _say, _show)
        _tell(applied.changes, "done")
        _console.print(f"dashboard: {applied.dashboard_url}", soft_wrap=True)
        _console.print(f"log in as: {applied.log_in}", markup=False, soft_wrap=True)
        _console.print(
            "#refresh=1 is Metabase's fastest: it asks every question anew each second and keeps the old picture until "
            "the new one is there, so what is seen is a second and the queries' own time old. An open page costs one "
            "query a question and second; #refresh=10 costs a tenth. The live page (python -m dashboards) is pushed to."
        )


@app.command()
def diff() -> None:
    """Show what `apply` would change, and change nothing.

    Exit codes: 0 Metabase is as the cards say, 1 an operator has something to do, 2 usage, 3 there are differences,
    4 Metabase does not answer.
    """
    from dashboards.metabase.main import diff as compare

    with _clear_errors():
        found = compare(settings(), cards(), _say)
        for change in found:
            _show(change)
        _tell(found, "to do")
    if found:
        raise typer.Exit(_DIFFERENT)


def _say(message: str) -> None:
    _errors.print(message, markup=False)


def _show(change: Change) -> None:
    sign, style = _SIGNS[change.action]
    _console.print(f"[{style}]{sign} {change.kind} {escape(change.name)}[/]", soft_wrap=True)
    for note in change.notes:
        _console.print(f"    {note}", markup=False, soft_wrap=True)


def _tell(found: Sequence[Change], what: str) -> None:
    if not found:
        _console.print("no changes")
        return
    counts = {action: sum(change.action == action for change in found) for action in _SIGNS}
    words = {"create": "created", "update": "updated", "archive": "archived"} if what == "done" else {}
    _console.print(", ".join(f"{count} {words.get(name, f'to {name}')}" for name, count in counts.items() if count))


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Known failures as one message and an exit code, without a traceback."""
    from dashboards.metabase.api import MetabaseAwayError, MetabaseError

    try:
        yield
    except MetabaseAwayError as error:
        _errors.print(str(error), style="red", markup=False)
        raise typer.Exit(_AWAY) from None
    except (MetabaseError, SettingsError, CardError) as error:
        _errors.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
