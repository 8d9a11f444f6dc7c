"""Redrive: send quarantined records that today's rules accept to the topic again, and through the whole pipeline.

A redriven record is a new record with the same value: the stream applies it exactly once by its invoice number and
lands it in the lake, with the same code as any other. So an interrupted redrive is simply run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values
from rich.console import Group, RenderableType
from rich.text import Text

from conf.errors import UnavailableError
from conf.kafka import Brokers
from conf.settings import Settings
from conf.terminal import Table, number, prose
from mart.quarantine import Quarantined, quarantined
from mart.reject_reason import MEANING, RejectReason
from producer.send import Sender
from sql import statement
from streaming.invoice import Invoice
from streaming.parse import RejectedError, parse_invoice

_PAGE = 500  # records a transaction: their values are held in memory
_LEAST_UUID = "00000000-0000-0000-0000-000000000000"


class Outcome(StrEnum):
    """What settles a record here: mart.rejected_invoice.outcome."""

    REDRIVEN = "redriven"
    IN_THE_MART = "in the mart already"


@dataclass
class Redriven:
    """What was done: records sent again, records whose invoice is already in the mart, and how many stay in quarantine
    for which reason. `seen` is the sum."""

    sent: int = 0
    in_the_mart: int = 0
    stay: Counter[RejectReason] = field(default_factory=Counter)

    @property
    def seen(self) -> int:
        return self.sent + self.in_the_mart + self.stay.total()


@dataclass(frozen=True)
class _Verdict:
    """What becomes of a record: it is sent if it has an invoice; otherwise its new reason, detail and outcome."""

    record: Quarantined
    reason: RejectReason
    detail: str
    outcome: Outcome | None
    invoice: Invoice | None = None


def redrive(
    settings: Settings,
    connection: Connection,
    reasons: Collection[RejectReason] = (),
    coordinates: Collection[str] = (),
    dry_run: bool = False,
) -> Redriven:
    """Parse the unsettled records of KAFKA_TOPIC again (all, or those with some reasons, or at some coordinates as
    quarantine.check_coordinates returns them) and send those that are now valid.

    A record that is still wrong stays in quarantine, with its current reason. `dry_run` only counts. Raises what Sender
    raises, and UnavailableError if the brokers do not accept all of them: then those of the page stay in quarantine,
    and may be sent twice, which the stream recognises.
    """
    done = Redriven()
    with nullcontext() if dry_run else _sender(settings) as sender:
        after: tuple[str, int, int] = (_LEAST_UUID, -1, -1)
        while True:
            with connection, connection.cursor() as cursor:
                page = _lock_page(cursor, settings.kafka_topic, reasons, coordinates, after)
                if not page:
                    return done
                verdicts = _verdicts(cursor, settings, page)
                if sender is not None:
                    _send(sender, verdicts)
                    _settle(cursor, verdicts)
            for verdict in verdicts:
                done.sent += verdict.outcome == Outcome.REDRIVEN
                done.in_the_mart += verdict.outcome == Outcome.IN_THE_MART
                if verdict.outcome is None:
                    done.stay[verdict.reason] += 1
            last = page[-1]
            after = (last.topic_id, last.partition, last.offset)


def _lock_page(
    cursor: Cursor,
    topic: str,
    reasons: Collection[RejectReason],
    coordinates: Collection[str],
    after: tuple[str, int, int],
) -> list[Quarantined]:
    cursor.execute(
        statement("rejected/lock_open"),
        {
            "topic": topic,
            "after_topic_id": after[0],
            "after_partition": after[1],
            "after_offset": after[2],
            "reasons": [reason.value for reason in reasons] or None,
            "coordinates": list(coordinates) or None,
            "limit": _PAGE,
        },
    )
    return quarantined(cursor)


def _verdicts(cursor: Cursor, settings: Settings, records: Iterable[Quarantined]) -> list[_Verdict]:
    parsed = [(record, _parsed(record, settings)) for record in records]
    numbers = [invoice.invoice for _, invoice in parsed if isinstance(invoice, Invoice)]
    cursor.execute(statement("rejected/applied"), {"invoices": numbers})
    applied = {invoice: rest for invoice, *rest in cursor.fetchall()}
    return [_verdict(record, found, applied) for record, found in parsed]


def _parsed(record: Quarantined, settings: Settings) -> Invoice | RejectedError:
    """Parsed by today's rules, with the current time as its timestamp, as it will have."""
    try:
        return parse_invoice(record.raw, datetime.now(UTC), settings.zone, settings.max_message_bytes)
    except RejectedError as error:
        return error
    except Exception as error:  # the others of the page are redriven
        return RejectedError.unforeseen(error)


def _verdict(record: Quarantined, found: Invoice | RejectedError, applied: dict[str, list[object]]) -> _Verdict:
    # `verify` takes from quarantine which of the lake's copies were refused, so such a record keeps its reason.
    is_landed = record.reason in (RejectReason.CONFLICTING_DUPLICATE, RejectReason.INTERNAL_ERROR)
    if isinstance(found, RejectedError):
        if is_landed:
            return _Verdict(record, record.reason, record.detail, None)
        return _Verdict(record, found.reason, found.detail, None)
    if found.invoice not in applied:
        return _Verdict(record, record.reason, record.detail, Outcome.REDRIVEN, found)
    content_sha256, partition, offset = applied[found.invoice]
    if content_sha256 == found.content_sha256:
        return _Verdict(record, record.reason, record.detail, Outcome.IN_THE_MART)
    detail = f"invoice {found.invoice!r} was applied from partition {partition} offset {offset}"
    return _Verdict(record, RejectReason.CONFLICTING_DUPLICATE, record.detail if is_landed else detail, None)


def _sender(settings: Settings) -> Sender[None]:
    return Sender(Brokers.of(settings), settings.kafka_topic, settings.max_message_bytes)


def _send(sender: Sender[None], verdicts: Iterable[_Verdict]) -> None:
    """Send the records' values under the contract's key, and wait until the broker has them all."""
    try:
        for verdict in verdicts:
            value = verdict.record.raw
            if verdict.invoice and value is not None:
                sender.send((verdict.invoice.customer_id or verdict.invoice.invoice).encode(), value, None)
        sender.flush()
    except UnavailableError as error:
        raise UnavailableError(f"{error}. What it did not take is still in quarantine") from error


def _settle(cursor: Cursor, verdicts: list[_Verdict]) -> None:
    rows = [
        (
            v.record.topic_id,
            v.record.partition,
            v.record.offset,
            v.reason.value,
            v.detail,
            v.outcome and v.outcome.value,
        )
        for v in verdicts
    ]
    execute_values(cursor, statement("rejected/settle"), rows, page_size=_PAGE)


def describe(done: Redriven, dry_run: bool) -> RenderableType:
    """What was done, for a terminal."""
    if not done.seen:
        return Text("no matching records in quarantine")
    table = Table(number("records"), prose("outcome"))
    if done.sent:
        table.add(f"{done.sent:,}", "would be sent again" if dry_run else "sent to the topic again")
    if done.in_the_mart:
        table.add(f"{done.in_the_mart:,}", "not needed: the mart has the invoice with this content")
    for reason, records in done.stay.most_common():
        table.add(f"{records:,}", f"still rejected: {reason}, {MEANING[reason]}")
    if dry_run:
        return Group(table, Text("nothing was changed (--dry-run)", style="dim"))
    return table
