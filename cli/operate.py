"""Operate: prove, repair, keep and remove."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import configured, console, errors, say
from cli.errors import NOT_EQUAL, OPERATOR, UNAVAILABLE
from cli.stream import Query
from conf.counted import counted
from conf.terminal import Table, number
from mart.reject_reason import RejectReason

if TYPE_CHECKING:
    from lake.files import Compacted

app = typer.Typer()
rejected = typer.Typer(
    help="Quarantine: list the records that were not applied, show one, send some again after a fix.",
    no_args_is_help=True,
)
app.add_typer(rejected, name="rejected")


@app.command()
def verify(
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until the lake has landed what the mart has applied.")
    ] = 180,
    shown: Annotated[int, typer.Option(min=0, help="Show at most N differences of each kind.")] = 10,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Where they differ, correct the mart from the lake (as MART_OWNER_DSN)."),
    ] = False,
    always: Annotated[bool, typer.Option("--always", help="With --repair: even if nothing differs.")] = False,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="With --repair: even if the lake lacks over 1 % of the mart's invoices."),
    ] = False,
) -> None:
    """Recompute every invoice and customer from the lake by another engine and compare the mart with it, to the cent.

    Both are compared at the mart's next offsets, so it may run while traffic flows. A repair rebuilds the mart from the
    lake and puts it in place in one transaction, for which the stream waits; see docs/operations.md. Exit codes: 0
    equal, or repaired; 1 operator action required; 4 PostgreSQL is unavailable; 5 not equal.
    """
    from operations.repair import describe as describe_repair
    from operations.repair import repair as repair_mart
    from operations.verify import NothingAppliedError, describe
    from operations.verify import verify as verify_mart

    if (always or accept_loss) and not repair:
        raise typer.BadParameter("--always and --accept-loss require --repair")
    current = configured()
    with errors.status("") as status:
        try:
            verified = verify_mart(current, wait, shown, status.update, errors.print)
        except NothingAppliedError:
            if not repair:
                raise
            verified = None
    if verified is not None:
        console.print(describe(verified))
    if repair and (always or verified is None or not verified.equal):
        with errors.status("") as status:
            done = repair_mart(current, wait, accept_loss, status.update, errors.print)
        console.print(describe_repair(done))
    elif verified is not None and not verified.equal:
        raise typer.Exit(NOT_EQUAL)


@app.command()
def rewind(
    only: Annotated[
        Query | None, typer.Option(help="Rewind only the mart (apply) or only the lake (land). [default: both]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget how far the topic is applied and landed: the next run reads it from its first record.

    Says what that means, then asks. Invoices that are in the mart are recognised and not counted again. The lake takes
    a second copy of what the topic still holds; its readers count each invoice once, the earliest copy. Use it
    also after the topic was deleted and created again. A running job ends (fenced) at its next batch: start it again.
    Exit codes: 0 done, 1 declined, or operator action required, 4 Kafka, PostgreSQL or the lake is unavailable: nothing
    is half done, run it again.
    """
    from operations.rewind import describe, look
    from operations.rewind import rewind as rewind_next_offsets

    current = configured()
    if not yes:
        console.print(describe(look(current, only), only), markup=False)
        typer.confirm("Rewind?", abort=True)
    rewind_next_offsets(current, only, typer.echo)


@app.command()
def compact() -> None:
    """Merge the lake's small files, and delete those that its newest version left LAKE_RETENTION_HOURS ago.

    Safe while the stream runs, and to run again.
    """
    from lake.files import compact as compact_lake

    current = configured()
    with errors.status(f"compacting {current.lake}"):
        done = compact_lake(current.lake, current.lake_retention_hours)
    console.print(compacted(done))
    console.print(
        f"{counted(done.merged, 'file')} merged; {counted(done.deleted, 'file')} deleted that left the lake more than "
        f"{counted(current.lake_retention_hours, 'hour')} ago; in {done.seconds:.1f} s, version {done.version}"
    )


def compacted(done: Compacted) -> Table:
    from rich.filesize import decimal

    table = Table("lake", number("files"), number("size"))
    table.add("before", f"{done.files_before:,}", decimal(done.bytes_before))
    table.add("after", f"{done.files_after:,}", decimal(done.bytes_after))
    return table


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what is older than the settings keep (INVOICES_KEPT_DAYS, MOVES_KEPT_DAYS, LAKE_KEPT_DAYS,
    QUARANTINE_KEPT_DAYS, BATCHES_KEPT_DAYS, RULE_RUNS_KEPT), from mart and lake, as MART_OWNER_DSN.

    Customers, scores and totals stay as they are, and a removed invoice that comes again is not counted again. Shows
    what is old, then asks. Safe beside a running stream, and to run again. Exit codes: 0 removed, or nothing to remove,
    1 declined, or operator action required, 4 PostgreSQL or the lake is unavailable: run it again.
    """
    from operations.prune import describe, look
    from operations.prune import prune as prune_all

    current = configured()
    bounds, old = look(current)
    if bounds.as_of:
        say(f"days count back from {bounds.as_of}, the as-of date (RECENCY_CLOCK)")
    if dry_run or not yes:
        console.print(describe(current, bounds, old))
    if dry_run or not old.rows:
        console.print("nothing was changed (--dry-run)" if old.rows else "nothing to remove")
        return
    if not yes:
        typer.confirm("Remove them for good?", abort=True)
    with errors.status("") as status:
        gone = prune_all(current, bounds, lambda step: status.update(f"removing: {step}"))
    console.print(describe(current, bounds, gone, done=True))


@app.command()
def backup(
    folder: Annotated[Path | None, typer.Argument(help="Where to write it. [default: MART_HOME/backup]")] = None,
) -> None:
    """Write the mart (as MART_OWNER_DSN) into a file that `restore` takes, with a note of next offsets, lake version.

    Of one moment; may run while traffic flows. It does not contain the lake: copy its files as well.
    """
    from conf.stop_signals import cleared_away
    from operations.backup import backup as back_up

    current = configured()
    with cleared_away():
        dump = back_up(
            current,
            folder or current.mart_home / "backup",
            lambda leftover: errors.print(f"removed, of a backup that was killed: {leftover}"),
        )
    typer.echo(dump)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A dump that `backup` wrote; its .json lies beside it.")],
) -> None:
    """Restore a backup into the empty database of MART_OWNER_DSN; the next `run` continues from there.

    Jobs that ran against the lost mart are fenced, and customers on the lake's erasure list are erased again.
    """
    from operations.backup import restore as restore_mart
    from topic.offsets import in_words

    done = restore_mart(configured(), file)
    goes_on = in_words((p["topic"], p["partition"], p["next_offset"]) for p in done.note["next_offsets"])
    console.print(f"restored {counted(done.note['invoices'], 'invoice')} of {done.note['created_at']}")
    console.print(f"the stream goes on in {goes_on}", markup=False)
    if done.erased_again is not None:
        console.print(f"re-erased since the backup: {counted(done.erased_again, 'customer')}")
    console.print("next: retail-mart run, then retail-mart verify")


@app.command()
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Look once, show a table, and end: for cron or Airflow.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 30,
    prometheus_rules: Annotated[
        bool, typer.Option("--prometheus-rules", help="Print the same alerts as Prometheus' rules, and end.")
    ] = False,
) -> None:
    """Watch stream, nightly job and disks; tell by e-mail and Slack once when an alert fires, once when it is over.

    Limits: the settings that begin with ALERT_. Whom to tell: ALERT_EMAIL_TO by SMTP_HOST, SLACK_WEBHOOK_URL; in any
    case the log. What was told is kept in MART_HOME/watch.json, so a restart tells nothing twice. Reads as
    MART_READER_DSN, else as MART_DSN. Goes on while Kafka or PostgreSQL is unavailable: that is an alert, too.

    Exit codes: 0 stopped (Ctrl-C or SIGTERM), or nothing fires (--once); 1 something fires (--once), or a setting is
    missing; 4 nothing fires, but a message was not delivered (--once).
    """
    from conf.stop_signals import stop_signals
    from operations import prometheus_rules as rules
    from operations.notify import channels
    from operations.watch import Watch, describe

    current = configured()
    if prometheus_rules:
        sys.stdout.write(rules.prometheus_rules(current))
        return
    watching = Watch(current, channels(current))
    if not once:  # one look says by an alert that no server is named; to look again and again would be in vain
        current.require_kafka()
        current.require_mart("reader")
        with stop_signals() as stopping:
            watching.run(every, stopping)
        return
    look = watching.look()
    console.print(describe(look, current))
    if look.observed.unwatched:
        console.print(look.observed.unwatched, soft_wrap=True)
    if look.judgement.firing:
        raise typer.Exit(OPERATOR)
    if look.undelivered:
        raise typer.Exit(UNAVAILABLE)


@app.command()
def export(
    customer: Annotated[str, typer.Argument(help="The customer's id, exactly as in the invoices.")],
) -> None:
    """Print all that is stored of one customer as JSON: scores, invoices with their lines, moves, quarantined records.

    Exit code 1 if nothing is stored.
    """
    from operations.export import export as export_customer
    from operations.export import to_json

    typer.echo(to_json(export_customer(configured(), customer)))


@app.command()
def erase(
    customer: Annotated[
        str | None, typer.Argument(help="The customer's id, exactly as in the invoices.", show_default=False)
    ] = None,
    listed: Annotated[
        bool,
        typer.Option(
            "--listed",
            help="Erase everyone on the mart's and the lake's erasure lists again: after a restore, or for a new mart.",
        ),
    ] = False,
    accept_unknown: Annotated[
        bool,
        typer.Option("--accept-unknown", help="Also put an id that is stored nowhere on the erasure list, for good."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase one customer from mart and lake (as MART_OWNER_DSN), and print a receipt that names nobody.

    Says what is stored about them, then asks. An id that is stored nowhere is refused, as it is most likely mistyped.

    Their invoices stay without them, in the shop's totals and in the baskets; everyone else's scores stay exact. The
    erasure list keeps replays and new invoices from bringing them back. Safe beside a running stream, and to run again.
    Exit codes: 0 erased, 1 declined, or operator action required, 4 PostgreSQL or the lake is unavailable: run it
    again.
    """
    from operations.erase import check_known, describe, erase_listed, look
    from operations.erase import erase as erase_customer

    if (customer is None) != listed:
        raise typer.BadParameter("specify a CUSTOMER, or --listed")
    current = configured()
    if customer is not None:
        with errors.status("looking"):
            stored = look(current, customer)
        if not accept_unknown:
            check_known(customer, stored)
        whom = f"customer {customer} ({stored}{'; erased before' if stored.listed else ''})"
    else:
        whom = "everyone on the erasure list"
    if not yes:
        typer.confirm(f"Erase {whom} for good?", abort=True, err=True)  # standard output is the receipt's: no names
    with errors.status("erasing"):
        erased = erase_listed(current) if customer is None else erase_customer(current, customer)
    console.print(describe(erased))


Reasons = Annotated[
    list[RejectReason] | None,
    typer.Option("--reason", help="Only these reasons; may be repeated.", show_choices=False, metavar="REASON"),
]


@rejected.command("list")
def list_rejected(
    reason: Reasons = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Also those that were redriven, erased or pruned.")
    ] = False,
    newest: Annotated[int, typer.Option(min=0, help="Show the N newest records.")] = 20,
) -> None:
    """Count the quarantined records of KAFKA_TOPIC by reason, and show the newest."""
    from mart import quarantine
    from mart.session import session
    from operations.rejected import describe_list

    current = configured()
    with session(current.require_mart(), "retail-mart rejected") as connection:
        topic = current.kafka_topic
        counts = quarantine.count(connection, topic, reason or [], settled)
        records = quarantine.newest(connection, topic, reason or [], settled, newest)
        console.print(describe_list(topic, counts, records))


@rejected.command()
def show(
    record: Annotated[str, typer.Argument(help="Partition and offset, like 0:17.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the value alone, byte for byte, for a file or a pipe.")
    ] = False,
) -> None:
    """Show one quarantined record: coordinates, reason, detail and its value, readable."""
    from mart import quarantine
    from mart.session import session
    from operations.rejected import describe_record

    current = configured()
    with session(current.require_mart(), "retail-mart rejected") as connection:
        found = quarantine.find(connection, current.kafka_topic, record)
        if raw:
            sys.stdout.buffer.write(found.raw or b"")
        else:
            console.print(describe_record(current.kafka_topic, found))


@rejected.command()
def redrive(
    records: Annotated[list[str] | None, typer.Argument(metavar="PARTITION:OFFSET", help="These records.")] = None,
    reason: Reasons = None,
    every: Annotated[bool, typer.Option("--all", help="All records in quarantine.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Parse chosen records again by today's rules, and send the now-valid ones to KAFKA_TOPIC again.

    The stream applies and lands them like any other record, each invoice once. Those that are still wrong stay in
    quarantine, with the current reason. Safe to run again, and beside a running stream. Exit codes: 0 done, 1 operator
    action required, 4 Kafka or PostgreSQL is unavailable.
    """
    from mart import quarantine
    from mart.session import session
    from operations.redrive import describe
    from operations.redrive import redrive as redrive_records

    if bool(records) + bool(reason) + every != 1:
        raise typer.BadParameter("specify the records: PARTITION:OFFSET, or --reason, or --all")
    current = configured()
    with session(current.require_mart(), "retail-mart rejected") as connection:
        chosen = quarantine.check_coordinates(records or [])
        if dry_run:
            done = redrive_records(current, connection, reason or [], chosen, dry_run)
        else:
            with errors.status("redriving"):
                done = redrive_records(current, connection, reason or [], chosen)
        console.print(describe(done, dry_run))
