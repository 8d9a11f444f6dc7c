"""Look: the live page, Metabase, one customer's segment, how all is now, the settings."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import configured, console, errors, say
from cli.errors import UNAVAILABLE

if TYPE_CHECKING:
    from dashboards.metabase.plan import Change

app = typer.Typer()
metabase = typer.Typer(
    help="Metabase as code: the cards as questions on a dashboard, through Metabase's REST API.",
    no_args_is_help=True,
)
app.add_typer(metabase, name="metabase")
_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "archive": ("-", "red")}
_DIFFERENT = 3


@app.command()
def status() -> None:
    """Show the state of everything on one screen: job, lag and last batch, quarantine, lake, rules and disks.

    Reads as MART_READER_DSN, else as MART_DSN. Exit codes: 0 seen, 1 operator action required, 4 Kafka or
    the mart cannot be asked: the table says why.
    """
    from operations.status import Status, describe, see

    with console.status("looking"):
        seen: Status = see(configured())
    console.print(describe(seen))
    if seen.unavailable:
        raise typer.Exit(UNAVAILABLE)


@app.command()
def explain(
    customer: Annotated[str, typer.Argument(help="The customer's id, exactly as in the invoices.")],
    newest: Annotated[int, typer.Option(min=1, help="How many purchases and moves to show.")] = 20,
) -> None:
    """Show why a customer is in their segment: purchases, ranks, the way to the next quintile, each move's cause.

    Reads as MART_READER_DSN, else as MART_DSN. Exit code 1 for an unknown customer.
    """
    from mart.session import session
    from operations.explain import describe
    from operations.explain import explain as explain_customer

    with session(configured().require_mart("reader"), "retail-mart explain") as connection:
        explained = explain_customer(connection, customer, newest)
    console.print(describe(explained))


@app.command()
def page(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. The page has no login: keep it local, or behind a proxy that has."),
    ] = "127.0.0.1",
) -> None:
    """Serve the live page until stopped, and print its URL once it answers.

    Reads the mart as analytics_reader (MART_READER_DSN). An unavailable PostgreSQL is no reason to end: the page says
    so and goes on when it is back. Exit codes: 0 stopped by SIGTERM, 130 by Ctrl-C, 1 operator action required.
    """
    from conf.settings import settings
    from dashboards.serve import open_socket, serve

    current = settings()
    current.require_mart("reader")
    received = serve(current, host, open_socket(host, port), lambda url: typer.echo(f"live page: {url}"))
    raise typer.Exit(130 if received == signal.SIGINT else 0)


@metabase.command()
def apply() -> None:
    """Bring Metabase to what the cards say: account, database, rights, questions, dashboard.

    Run again, it changes nothing. All users may read the collection; it and SQL of one's own on the mart's database are
    for administrators.

    Waits for a Metabase that is starting. A fresh one is set up with METABASE_ADMIN_EMAIL and
    METABASE_ADMIN_PASSWORD, or with a generated password, kept in MART_HOME/metabase.json; METABASE_API_KEY is for one
    that is set up. A question whose card is gone is archived; other people's questions are left alone. Exit codes: 0
    done, 1 operator action required, 2 usage, 4 Metabase is unavailable.
    """
    from conf.settings import settings
    from dashboards.cards import cards
    from dashboards.metabase.main import apply as apply_cards

    applied = apply_cards(settings(), cards(), _note, _show)
    _tell(applied.changes, "done")
    console.print(f"dashboard: {applied.dashboard_url}", soft_wrap=True)
    say(f"log in as: {applied.log_in}")
    console.print(
        "#refresh=1 is Metabase's shortest interval: every question is asked again each second, and the old picture "
        "stays until the new one is there, so what you see is a second, and the query's own time, old. An open page "
        "costs one query per question and second; #refresh=10 costs a tenth. The live page (`retail-mart page`) asks "
        "nothing until something has changed."
    )


@metabase.command()
def diff() -> None:
    """Show what `apply` would change, and change nothing.

    Exit codes: 0 Metabase is as the cards say, 1 operator action required, 2 usage, 3 there are differences,
    4 Metabase is unavailable.
    """
    from conf.settings import settings
    from dashboards.cards import cards
    from dashboards.metabase.main import diff as compare

    found = compare(settings(), cards(), _note)
    for change in found:
        _show(change)
    _tell(found, "to do")
    if found:
        raise typer.Exit(_DIFFERENT)


@app.command("settings")
def show_settings() -> None:
    """Print all settings as a Markdown table: environment variable, default, meaning."""
    from conf.table import settings_table

    typer.echo(settings_table())


def _note(message: str) -> None:
    errors.print(message)


def _show(change: Change) -> None:
    from rich.markup import escape

    sign, style = _SIGNS[change.action]
    console.print(f"[{style}]{sign} {change.kind} {escape(change.name)}[/]", soft_wrap=True)
    for note in change.notes:
        say(f"    {note}")


def _tell(found: Sequence[Change], what: str) -> None:
    if not found:
        console.print("no changes")
        return
    counts = {action: sum(change.action == action for change in found) for action in _SIGNS}
    words = {"create": "created", "update": "updated", "archive": "archived"} if what == "done" else {}
    console.print(", ".join(f"{count} {words.get(name, f'to {name}')}" for name, count in counts.items() if count))
