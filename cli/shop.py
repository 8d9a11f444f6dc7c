"""Shop: where the invoices come from: the guided demo, generated files, replayed files, live traffic."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli.console import errors
from cli.errors import OPERATOR
from conf.counted import counted
from conf.errors import OperatorError, UnavailableError, UsageError

if TYPE_CHECKING:
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    from producer.send import Sender

app = typer.Typer()
_INTERRUPTED = 130
_DAYS_AGO = {"today": 0, "yesterday": 1}
ShowProgress = Annotated[bool, typer.Option(help="Show a progress bar, if this is a terminal.")]
T = TypeVar("T")


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of your own daily CSV files (our generator's columns, UCI Online Retail's or Retail II's).",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days of the generated shop, 500 invoices each.")] = 45,
    rate: Annotated[str, typer.Option(help="Rate of the replay: 500/s, 300/m.")] = "500/s",
    browser: Annotated[bool, typer.Option("--browser", help="Open the live page in the browser.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave Kafka and PostgreSQL running at the end.")] = False,
) -> None:
    """Generate a shop, stream it through Kafka and Spark into PostgreSQL, watch segments move, prove the result.

    Serves the live page meanwhile; at the end compares the mart with the lake and mines tonight's association rules.
    Everything lives in MART_HOME/demo, which each run makes anew. Exit code 0 only if the mart equals a batch recompute
    of the CSV files, every customer and every cent.
    """
    from demo.show import demo as show

    if not show(data, days, rate, browser, keep):
        raise typer.Exit(OPERATOR)


@app.command()
def generate(
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the files.", show_default="MART_HOME/shop")
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option(help="Exact number of lines.", show_default="1000000, unless --days"),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(help="Number of days; with --lines, the lines are spread over them.", show_default=False),
    ] = None,
    invoices_per_day: Annotated[int | None, typer.Option(help="Invoices per day.", show_default="500")] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="The last day: `today`, `yesterday` or YYYY-MM-DD.", metavar="DATE", show_default="yesterday"
        ),
    ] = None,
    start_date: Annotated[
        str | None,
        typer.Option(help="The first day instead of the last: YYYY-MM-DD.", metavar="DATE", show_default=False),
    ] = None,
    customers: Annotated[int, typer.Option(help="Number of customers; their ids begin at 12000.")] = 6_001,
    products: Annotated[int, typer.Option(help="Number of products; beyond 30 they are invented house brands.")] = 30,
    seed: Annotated[int, typer.Option(help="The same seed, options and dates write the same bytes.")] = 42,
    returns_share: Annotated[
        float,
        typer.Option(help="Share of invoices that are returns, with a C before the number and negative quantities."),
    ] = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="First remove the daily files that an earlier run left in the folder.")
    ] = False,
    progress: ShowProgress = True,
) -> None:
    """Write an Indonesian shop's history: one file per day, transaksi_YYYY-MM-DD.csv, in UTF-8.

    By construction P(IND-002|IND-001) = 0.70, P(HHLD-002|HHLD-001) = 0.60, P(BEV-002|BEV-001) = 0.50;
    10 % of invoices without a customer, 2 % of lines with price 0, 1 % admin lines. Prices are in rupiah.
    """
    from rich.progress import MofNCompleteColumn

    from conf.settings import settings
    from producer import generate as shop

    if until and start_date:
        raise UsageError("--until and --start-date: give one of the two")
    dates: dict[str, Any] = (
        {"start_date": _option("--start-date", _day, start_date)}
        if start_date
        else {"until": _option("--until", _day, until or "yesterday")}
    )
    options = shop.Options(
        output=output or settings().mart_home / "shop",
        lines=lines,
        days=days,
        invoices_per_day=invoices_per_day,
        customers=customers,
        products=products,
        seed=seed,
        returns_share=returns_share,
        **dates,
    )
    try:
        with _bar(progress, MofNCompleteColumn()) as bar:
            task = bar.add_task("lines", total=options.expected_lines)
            summary = shop.generate(options, overwrite, lambda written: bar.advance(task, written))
    except OSError as error:
        raise OperatorError(f"cannot write the files: {error}") from None
    typer.echo(
        f"{counted(summary.lines, 'line')}, {counted(summary.invoices, 'invoice')}, {counted(summary.days, 'day')} "
        f"({summary.first_day} to {summary.last_day}) in {summary.output}: "
        f"{summary.seconds:.1f} s, {summary.lines / summary.seconds:,.0f} lines/s"
    )


@app.command()
def replay(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="CSV or CSV.gz files, or folders of them (by name).", show_default=False),
    ],
    rate: Annotated[str | None, typer.Option(help="Rate: 1000/s, 300/m, 50/h.", show_default=False)] = None,
    speed: Annotated[
        str | None,
        typer.Option(help="Speed relative to shop time: 3600x is an hour per second.", show_default=False),
    ] = None,
    shift_to: Annotated[
        str | None,
        typer.Option(
            help="Move all dates so that this is the last day: `today`, `yesterday` or YYYY-MM-DD.",
            metavar="DATE",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[
        bool,
        typer.Option(
            "--loop",
            help="Repeat until stopped. Round 2 is dated as many days later as the files span, its invoice numbers end "
            "in -2, and so on.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue where the last replay of the same paths stopped; no invoice is left out."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after N invoices.", min=1, show_default=False)] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="CSV file of the lines that cannot be sent.", show_default="MART_HOME/producer/rejects.csv"),
    ] = None,
    progress: ShowProgress = True,
) -> None:
    """Send daily files to Kafka, one message per invoice; flat out, unless --rate or --speed says otherwise.

    The files are those of `generate`, of UCI Online Retail or of Online Retail II, in UTF-8 or Latin-1. A line
    that cannot be sent goes to the file of rejects, with its number and the reason; all others are sent.

    Exit codes: 0 everything readable was acknowledged, 1 operator action required, 2 wrong usage, 4 Kafka is
    unavailable, 130 interrupted.
    """
    from rich.progress import TextColumn

    from conf.settings import settings
    from producer.csv_invoices import check_header, csv_files
    from producer.pace import Pace, parse_rate, parse_speed
    from producer.position import load, position_file, save
    from producer.replay import Options, RejectFile, date_span
    from producer.replay import Progress as Sent
    from producer.replay import replay as send_files

    if rate and speed:
        raise UsageError("--rate and --speed: give one of the two")
    pace = Pace(_option("--rate", parse_rate, rate), _option("--speed", parse_speed, speed))
    last_day = _option("--shift-to", _day, shift_to)
    conf = settings()
    try:
        files = csv_files(paths)
        for file in files:
            check_header(file)
        state = position_file(conf.mart_home / "producer", conf.kafka_topic, paths)
        start = load(state) if resume else None
    except OSError as error:
        raise UsageError(str(error)) from None

    with _stop_on_signals() as stop, _connected() as sender:
        span = date_span(files) if last_day or loop else None
        shift_days = (last_day - span.last).days if last_day and span else 0
        if start:
            shift_days = start.shift_days
        if loop and span and span.last + timedelta(days=shift_days + span.days) > date.today():
            errors.print(
                f"note: from round 2 on, invoices are dated in the future ({counted(span.days, 'day')} per round), and "
                "the streaming job rejects those: give an earlier --shift-to"
            )
        try:
            with (
                RejectFile(rejects or conf.mart_home / "producer" / "rejects.csv", append=resume) as bad,
                _bar(progress, TextColumn("{task.fields[invoices]:,} invoices, {task.fields[speed]}")) as bar,
            ):
                task = bar.add_task("replay", total=None if loop and not limit else 1.0, invoices=0, speed="")

                def show(sent: Sent) -> None:
                    seconds = bar.tasks[0].elapsed or 0
                    speed = f"{sent.invoices / seconds:,.0f}/s" if seconds else ""
                    bar.update(task, completed=sent.fraction, invoices=sent.invoices, speed=speed)
                    if sent.acknowledged:
                        save(state, sent.acknowledged)

                loop_days = span.days if loop and span else None
                options = Options(files, pace, shift_days, loop_days, start, limit)
                summary = send_files(options, sender, bad, stop, show)
        except OSError as error:
            raise OperatorError(f"{error.filename}: {error.strerror}") from None
    typer.echo(
        f"{counted(summary.invoices, 'invoice')} ({counted(summary.lines, 'line')}) acknowledged by "
        f"{sender.topic!r}: {summary.seconds:.1f} s, {summary.invoices / summary.seconds:,.0f} invoices/s"
    )
    if summary.rejected:
        typer.echo(f"{counted(summary.rejected, 'line')} rejected: see {bad.path}")
    if summary.stopped:
        typer.echo("interrupted: continue with --resume")
        raise typer.Exit(_INTERRUPTED)


def _day(text: str) -> date:
    from conf.settings import settings

    if text in _DAYS_AGO:
        return datetime.now(settings().zone).date() - timedelta(days=_DAYS_AGO[text])
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ValueError(f"{text!r} is not a date: give `today`, `yesterday` or YYYY-MM-DD") from None


@app.command()
def live(
    rate: Annotated[str, typer.Option(help="Mean rate over the opening hours: 5/s, 300/m.")] = "5/s",
    rhythm: Annotated[
        bool, typer.Option(help="Follow the time of day in the shop's time zone: peaks by day, a trickle at night.")
    ] = True,
    burst: Annotated[
        float | None,
        typer.Option(help="Bring a group of lapsed customers back every N seconds.", metavar="N", show_default=False),
    ] = None,
    burst_customers: Annotated[int, typer.Option(help="Customers in that group.", min=1)] = 50,
    duration: Annotated[
        float | None, typer.Option(help="Stop after N seconds.", metavar="N", show_default=False)
    ] = None,
    customers: Annotated[int, typer.Option(help="Customers, as in generate.", min=1, max=10_000_000)] = 6_001,
    products: Annotated[int, typer.Option(help="Products, as in generate.", min=7, max=100_000)] = 30,
    seed: Annotated[
        int,
        typer.Option(
            help="As in generate: the same seed is the same shop; invoice numbers differ between runs.", min=0
        ),
    ] = 42,
    progress: ShowProgress = True,
) -> None:
    """Send live traffic until stopped: the shop of `generate`, its invoices dated now in the shop's time zone.

    Invoice numbers begin with the time of the start, so that no two runs share one.
    """
    from rich.progress import TextColumn

    from conf.settings import settings
    from producer.live import Options
    from producer.live import live as sell
    from producer.pace import parse_rate

    options = Options(
        rate=_option("--rate", parse_rate, rate) or 0.0,
        zone=settings().zone,
        with_rhythm=rhythm,
        burst_seconds=burst,
        burst_customers=burst_customers,
        duration=duration,
        customers=customers,
        products=products,
        seed=seed,
    )
    for name, value in (("--burst", burst), ("--duration", duration)):
        if value is not None and value <= 0:
            raise UsageError(f"{name} {value}: give a number of seconds above 0")
    with (
        _stop_on_signals() as stop,
        _connected() as sender,
        _bar(progress, TextColumn("{task.fields[invoices]:,} invoices, {task.fields[bursts]} bursts")) as bar,
    ):
        task = bar.add_task("live", total=duration, invoices=0, bursts=0)
        summary = sell(
            options,
            sender,
            stop,
            lambda sent, count: bar.update(task, completed=bar.tasks[0].elapsed or 0, invoices=sent, bursts=count),
        )
    typer.echo(
        f"{counted(summary.invoices, 'invoice')}, {counted(summary.bursts, 'burst')} acknowledged by {sender.topic!r} "
        f"in {summary.seconds:.1f} s"
    )
    if summary.stopped:
        raise typer.Exit(_INTERRUPTED)


def _option(name: str, parse: Callable[[str], T], text: str | None) -> T | None:
    """The parsed option. Raises UsageError, with the reason, for a value that makes no sense."""
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None


@contextmanager
def _stop_on_signals() -> Iterator[Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set; a second one ends the process at once."""
    from conf.stop_signals import STOPS, handled_by

    stop = Event()

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    with handled_by(on_signal, *STOPS):
        yield stop


@contextmanager
def _connected() -> Iterator[Sender[Any]]:
    """A sender to the settings' topic. Raises what it raises, with how much was acknowledged before it."""
    import logging

    from conf.kafka import Brokers
    from conf.settings import settings
    from producer.send import Sender

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it repeats itself; the errors say it all
    conf = settings()
    with Sender[Any](Brokers.of(conf), conf.kafka_topic, conf.max_message_bytes) as sender:
        try:
            yield sender
        except (OperatorError, UnavailableError) as error:
            raise type(error)(
                f"{error}\nacknowledged: {sender.acknowledged:,} of {counted(sender.sent, 'invoice')} sent"
            ) from None


def _bar(show: bool, *columns: TextColumn | MofNCompleteColumn) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not (show and errors.is_terminal),
    )
