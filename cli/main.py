"""Every verb of the front door, in panels by who needs it."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from cli import look, operate, rules, servers, shop, stream
from cli.run import run_command
from cli.verbs import Verb, Verbs

_PANELS = {
    "Shop: where invoices come from": shop.app,
    "Servers: Kafka, PostgreSQL, Airflow and Java on this machine": servers.app,
    "Stream: invoices into mart and lake": stream.app,
    "Look: what is there, and why": look.app,
    "Rules: what sells together, each night": rules.app,
    "Operate: prove, repair, keep and remove": operate.app,
}

app = typer.Typer(
    cls=Verbs,
    help="A near-real-time retail data mart: Kafka → Spark Structured Streaming → PostgreSQL and a Delta lake.",
    epilog="Exit codes: 0 done, 1 operator action required, 2 usage, 3 fenced or kept back, 4 a server is "
    "unavailable, 5 not equal or not yet; 128 + n: ended by signal n.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _panel, _part in _PANELS.items():
    for _command in _part.registered_commands:
        _command.rich_help_panel, _command.cls = _panel, Verb
    for _group in _part.registered_groups:
        _group.rich_help_panel, _group.cls = _panel, Verbs
        for _command in _group.typer_instance.registered_commands if _group.typer_instance else ():
            _command.cls = Verb
    app.add_typer(_part)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"retail-mart {version('retail-mart')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> NoReturn:
    run_command(app, "retail-mart")
