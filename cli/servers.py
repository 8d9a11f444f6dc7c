"""Servers: a real Kafka broker and a real PostgreSQL as plain processes on 127.0.0.1; Airflow; Java and its jars."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import console, errors, say
from conf.errors import UsageError
from conf.terminal import Table, prose

if TYPE_CHECKING:
    from conf.settings import Settings
    from stack.lifecycle import ServerStatus, Started

_NOT_RUNNING = 3

app = typer.Typer()
jvm = typer.Typer(help="The Java in use, and the download of the jars.", no_args_is_help=True)
app.add_typer(jvm, name="jvm")


@app.command()
def up() -> None:
    """Start Kafka and PostgreSQL, if they are not running, and create the topic; the other commands find them.

    Their data is below MART_HOME. If the environment has KAFKA_BOOTSTRAP_SERVERS or MART_DSN, that server is used and
    none is started in its place.
    """
    from conf.settings import STATE_FILE_NAME, external_servers, settings
    from stack import lifecycle

    with console.status("Starting Kafka and PostgreSQL"):
        lifecycle.up_as_configured(settings(), say)
    if not all(external_servers()):
        say(f"addresses and passwords: {settings().mart_home / STATE_FILE_NAME}")


@app.command("env")
def env_file(
    path: Annotated[Path, typer.Argument(help="The file that docker-compose.yml reads.")] = Path(".env"),
) -> None:
    """Write the random passwords of docker-compose.yml into a file of mode 600; those it already has are kept."""
    from stack.env_file import write_env_file

    written = write_env_file(path)
    say(f"{path}: {'wrote ' + ', '.join(written) if written else 'has every password already'}")


@app.command()
def servers(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the servers, and what a running command has started for itself. Exit code 3 if a server is down."""
    from conf.settings import external_servers, settings
    from stack import lifecycle

    kafka, mart = external_servers()
    external = {"Kafka": kafka, "PostgreSQL": mart}
    servers = [s for s in lifecycle.status(settings().mart_home) if not external[s.name]]
    parts = lifecycle.started(settings().mart_home)
    if as_json:
        typer.echo(json.dumps([s._asdict() for s in servers] + [p._asdict() for p in parts], default=str, indent=2))
    else:
        console.print(server_table([name for name, address in external.items() if address], servers, parts))
        if any(part.left for part in parts):
            say("`retail-mart up` or `down` ends what was left.")
    if not all(s.running for s in servers):
        raise typer.Exit(_NOT_RUNNING)


def server_table(external: Iterable[str], servers: Iterable[ServerStatus], parts: Iterable[Started]) -> Table:
    from rich.filesize import decimal

    table = Table("server", prose("state"), "address", "pid", "data", "log")
    for name in external:
        table.add(name, "external", "", "", "", "")
    for s in servers:
        state = "running" if s.running else "down"
        table.add(s.name, state, s.address or "", str(s.pid or ""), decimal(s.data_bytes), str(s.log))
    for part in parts:
        of = "left by a killed command" if part.left else f"until command {part.command_pid} ends"
        table.add(part.name, of, "", str(part.pid), "", "")
    return table


@app.command()
def down() -> None:
    """Stop both servers cleanly; the data is kept for the next `up`."""
    from conf.settings import settings
    from stack import lifecycle

    with console.status("Stopping Kafka and PostgreSQL"):
        lifecycle.down(settings().mart_home, say)


@app.command("with-servers", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def with_servers(
    program: Annotated[list[str], typer.Argument(metavar="PROGRAM", help="What to run, such as `retail-mart page`.")],
) -> None:
    """Run a program with Kafka and PostgreSQL up; those started for it are stopped when it ends, however it ends.

    The exit code is the program's.
    """
    from conf.settings import settings
    from conf.stop_signals import ended_by_signals
    from stack import lifecycle
    from stack.children import end_with_us, run

    if shutil.which(program[0]) is None:  # before any server is started for it
        raise UsageError(f"no program {program[0]!r}: give one that is on the PATH, or its path")
    with ended_by_signals(), end_with_us(settings().mart_home, servers=True):
        with errors.status("Starting Kafka and PostgreSQL"):
            lifecycle.up_as_configured(settings(), errors.print)  # standard output is the program's
        code = run(program)
    raise typer.Exit(code)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop both servers and delete their data, and the lake and checkpoints that were made from the topic."""
    from conf.settings import settings
    from stack import lifecycle

    home = settings().mart_home
    folders = lifecycle.doomed(home)
    for folder in folders:
        say(f"delete {folder}")
    if folders and not yes:
        typer.confirm("Delete these for good?", abort=True)
    lifecycle.reset(home, say)


@app.command(context_settings={"ignore_unknown_options": True})
def airflow(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this airflow command instead, and end.")
    ] = None,
) -> None:
    """Run Airflow with the nightly job's DAG until Ctrl-C; its database and logs are below MART_HOME/airflow.

    With a COMMAND, such as `dags unpause nightly_rules`, that is what `airflow` does to the same database.
    """
    from conf.settings import settings
    from conf.stop_signals import ended_by_signals
    from stack.airflow import command as airflow_command
    from stack.airflow import is_new, running, start_run
    from stack.process import tail
    from stack.state import StackError

    current, python = settings(), Path(sys.executable)
    if command:
        raise typer.Exit(airflow_command(current, python, command))
    starting = console.status("Starting Airflow, about half a minute (a minute the first time)")
    with ended_by_signals():
        try:
            ended, first = _old_end_of_lake(current), is_new(current)
            starting.start()
            with running(current, python, datetime.now(UTC) if ended else None) as server:
                starting.stop()
                say(f"Airflow at {server.url}, user {server.user}, password in {server.passwords}")
                say(f"log: {server.log}")
                if ended:
                    say(f"The lake ends on {ended}: no run of last night, which has no invoices, is made.")
                    say("Trigger nightly_rules with the business date `newest` to compute the rules up to there.")
                if ended and first and current.mart_dsn:
                    with console.status("Starting one such run"):
                        start_run(current, python, server.log, "nightly_rules", {"business_date": "newest"})
                    say("One such run has been started. Ctrl-C stops all.")
                else:
                    say("The DAG nightly_rules is paused at first: unpause it there. Ctrl-C stops all.")
                if not current.mart_dsn:
                    say("No PostgreSQL yet: `retail-mart up`, or MART_DSN here, before the first run.")
                try:
                    server.wait()
                except (KeyboardInterrupt, SystemExit):
                    say("Stopping Airflow; a second Ctrl-C does not wait for it")
                    raise
                raise StackError(f"a part of Airflow ended by itself; the end of {server.log}:\n{tail(server.log)}")
        except (KeyboardInterrupt, SystemExit):
            say("Airflow is stopped")
        finally:
            starting.stop()


def _old_end_of_lake(current: Settings) -> date | None:
    """The lake's newest business date, if that is before yesterday: old files, or a stream that has stalled."""
    from batch_rules.landed import newest_business_date
    from conf.errors import OperatorError, UnavailableError

    try:
        newest = newest_business_date(current.lake)
    except (OperatorError, UnavailableError):  # nothing to warn of: its tasks will say so
        return None
    return newest if newest < datetime.now(current.zone).date() - timedelta(days=1) else None


@jvm.command()
def java() -> None:
    """Print the home and the version of the Java that Spark and the broker use."""
    from jvm.java import java as find_java

    found = find_java()
    typer.echo(f"{found.home}\t{found.version}")


@jvm.command()
def jars() -> None:
    """Download the jars of Spark's connectors and of the broker, once, and print where each one is."""
    from jvm.jars import broker_classpath, spark_jars

    for jar in (*spark_jars(), *broker_classpath()):
        typer.echo(jar)


@jvm.command("spark-jars")
def submitted_jars() -> None:
    """Print the jars of Spark's connectors in one line: `spark-submit --jars "$(retail-mart jvm spark-jars)"`."""
    from jvm.jars import spark_jars

    typer.echo(",".join(map(str, spark_jars())))


@jvm.command("log-options")
def options_of_logs() -> None:
    """Print the Java options by which Spark logs as LOG_FORMAT says, from its first line on: for spark-submit's
    --driver-java-options."""
    from conf.settings import settings
    from jvm.logs import log_options

    typer.echo(shlex.join(log_options(settings())))


@jvm.command("s3-jars")
def jars_of_s3() -> None:
    """Print in one line the jars that Spark needs beside those to read a lake on S3, for spark-submit's --jars, too."""
    from jvm.jars import s3_jars

    typer.echo(",".join(map(str, s3_jars())))
