"""Command line of the dashboards."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer
from rich.console import Console

from conf.command import run_command
from conf.settings import SettingsError, settings
from dashboards.metabase import commands as metabase

app = typer.Typer(
    help="The dashboards: the live page in a browser, and Metabase. Without a command: serve the page on a free port.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(metabase.app, name="metabase")
_errors = Console(stderr=True, highlight=False)
_LOCAL = "127.0.0.1"


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. The page has no login: keep it local, or behind a proxy that has."),
    ] = _LOCAL,
) -> None:
    """Serve the live page until stopped, and print its URL once it answers.

    Reads the mart as analytics_reader (MART_READER_DSN). PostgreSQL away is no reason to end: the page says so and
    goes on when it is back. Exit codes: 0 stopped by SIGTERM, 130 by Ctrl-C, 1 an operator has something to do.
    """
    from dashboards.cards import CardError
    from dashboards.serve import open_socket
    from dashboards.serve import serve as serve_page

    try:
        current = settings()
        current.require_mart("reader")
        listening = open_socket(host, port)
        received = serve_page(current, host, listening, lambda url: typer.echo(f"live page: {url}"))
    except (SettingsError, CardError) as error:
        _errors.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        _errors.print(f"cannot listen on {host} port {port}: {reason}; try another --port", style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    raise typer.Exit(130 if received == signal.SIGINT else 0)


if __name__ == "__main__":
    run_command(app, "dashboards")
