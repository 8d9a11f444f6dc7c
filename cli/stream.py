"""Stream: the mart's tables, and the job that fills mart and lake."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cli.console import configured

app = typer.Typer()
Query = Literal["apply", "land"]


@app.command()
def migrate() -> None:
    """Create or update the mart's tables and views (as MART_OWNER_DSN). Safe to run again."""
    from mart.migrate import migrate as apply_migrations
    from mart.session import session

    with session(configured().require_mart("owner"), "retail-mart migrate") as connection:
        applied = apply_migrations(connection)
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply: the mart is up to date")


@app.command()
def run(
    available_now: Annotated[
        bool, typer.Option("--available-now", help="Catch up with the topic as it is now, then stop.")
    ] = False,
    only: Annotated[
        Query | None,
        typer.Option(help="Run one query: apply (to the mart) or land (in the lake). [default: both]"),
    ] = None,
    max_invoices_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Upper bound of invoices in one micro-batch. [default: 40000]")
    ] = None,
    accept_gap: Annotated[
        bool,
        typer.Option("--accept-gap", help="Continue although the broker deleted records before they were read."),
    ] = False,
    warm_up_rounds: Annotated[
        int, typer.Option(min=0, help="Synthetic batches that warm up the JVM before the first real one.")
    ] = 8,
    check_every: Annotated[
        int,
        typer.Option(
            min=0, help="Compare all scores with a full ntile every N batches and report differences; 0: never."
        ),
    ] = 1000,
    master: Annotated[str | None, typer.Option(help="Spark master. [default: local[*]]")] = None,
) -> None:
    """Apply the topic's invoices to the mart and land them in the lake, until stopped (Ctrl-C or SIGTERM).

    A stop ends both queries between two transactions; the next start continues from where the mart and the lake are.

    Exit codes: 0 stopped or caught up, 1 operator action required, 2 usage, 3 fenced by a newer job,
    4 Kafka, PostgreSQL or the lake was unavailable.
    """
    current = configured()  # before pyspark, which takes a second to import: a wrong setting is told at once
    from streaming.main import RunOptions
    from streaming.main import run as run_job

    chosen = {"max_invoices_per_batch": max_invoices_per_batch, "spark_master": master}
    current = current.model_copy(update={k: v for k, v in chosen.items() if v is not None})
    run_job(current, RunOptions(available_now, accept_gap, warm_up_rounds, check_every, only))
