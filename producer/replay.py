"""Replay daily files into Kafka: one message an invoice, in the order of the files."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import NamedTuple

from conf.counted import counted
from producer.csv_invoices import FIRST_YEAR, LAST_YEAR, MAX_CODE, Invoice, LineError, Reject, read_invoices
from producer.event import event, record_key
from producer.pace import Pace
from producer.position import Position, PositionError
from producer.send import Sender

_TICK_SECONDS = 0.25  # between looks at the clock for progress and position


class Span(NamedTuple):
    """The first and the last day of some files."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


@dataclass(frozen=True)
class Options:
    """What to send: the files' invoices in their order, at a pace, at most `limit` of them.

    `shift_days` moves all dates. `loop_days`, the files' span in days, makes it go round again and again, each round
    that many days later and with other invoice numbers. `start` is where an earlier replay stopped.
    """

    files: Sequence[Path]
    pace: Pace = field(default_factory=Pace)
    shift_days: int = 0
    loop_days: int | None = None
    start: Position | None = None
    limit: int | None = None


class Progress(NamedTuple):
    fraction: float
    """Of the files' bytes in this round, or of the limit, from 0 to 1."""
    invoices: int
    lines: int
    rejected: int
    acknowledged: Position | None = None
    """Up to where the brokers have all of it, if that is farther than when this was told last."""


class Summary(NamedTuple):
    invoices: int
    """Acknowledged by the brokers."""
    lines: int
    rejected: int
    seconds: float
    stopped: bool


class RejectFile:
    """A CSV file of the lines that were not sent: file, line, reason, raw."""

    def __init__(self, path: Path, append: bool = False) -> None:
        self.path = path
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not (append and path.exists() and path.stat().st_size)
        self._file = path.open("w" if fresh else "a", encoding="utf-8", newline="", errors="replace")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if fresh:
            self._writer.writerow(Reject._fields)

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rejects: Sequence[Reject]) -> None:
        self._writer.writerows(rejects)
        self._file.flush()
        self.count += len(rejects)


def date_span(files: Sequence[Path]) -> Span | None:
    """The days that the files' invoices span, None if there is no invoice. Reads all of them."""
    first = last = None
    for file in files:
        for invoice in read_invoices(file)[0]:
            day = invoice.date.date()
            first = day if first is None or day < first else first
            last = day if last is None or day > last else last
    return Span(first, last) if first and last else None


def moved(invoice: Invoice, days: int, round_: int) -> Invoice:
    """The invoice as a later round sells it: so many days later, with `-2`, `-3` … after its number.

    Raises LineError if the number gets too long or the date leaves FIRST_YEAR to LAST_YEAR.
    """
    if not days and not round_:
        return invoice
    number = f"{invoice.number}-{round_ + 1}" if round_ else invoice.number
    if len(number) > MAX_CODE:
        raise LineError(f"the invoice number {number} is longer than {MAX_CODE} characters")
    try:
        date = invoice.date + timedelta(days=days)
    except OverflowError:
        date = datetime.max
    if not FIRST_YEAR <= date.year <= LAST_YEAR:
        raise LineError(f"{invoice.date} moved by {counted(days, 'day')} is not in {FIRST_YEAR}..{LAST_YEAR}")
    return replace(invoice, number=number, date=date)


def remaining(files: Sequence[Path], position: Position | None) -> list[tuple[Path, int]]:
    """The files of the round that the position is in which still hold something, with the invoices to skip.

    Raises PositionError if the position's file is not among them.
    """
    if position is None:
        return [(file, 0) for file in files]
    names = [str(f.resolve()) for f in files]
    if position.file not in names:
        raise PositionError(
            f"the replay stopped in {position.file}, which is no longer among the files: "
            "put it back, or omit --resume to start over"
        )
    at = names.index(position.file)
    return [(file, position.invoices if i == 0 else 0) for i, file in enumerate(files[at:])]


class Message(NamedTuple):
    """One invoice, ready to be sent."""

    key: bytes
    value: bytes
    lines: int
    date: datetime
    """The invoice's, as it is sent."""
    position: Position
    """Where a replay goes on once this one is acknowledged."""
    fraction: float
    """Of the round's bytes, up to and with this invoice."""


def messages(options: Options, rejects: RejectFile, max_bytes: int = 1_000_000) -> Iterator[Message]:
    """The files' invoices as messages, one file in memory at a time."""
    files, start, loop_days = options.files, options.start, options.loop_days
    sizes = {file: file.stat().st_size for file in files}
    total = max(1, sum(sizes.values()))
    todo = remaining(files, start)
    for round_ in count(start.round if start else 0):
        done = total - sum(sizes[file] for file, _ in todo)
        any_sent = False
        for file, skip in todo:
            name = str(file.resolve())
            invoices, bad = read_invoices(file)
            if round_ == 0:
                rejects.write(bad)
            for i, original in enumerate(invoices[skip:], start=skip + 1):
                try:
                    invoice = moved(original, options.shift_days + round_ * (loop_days or 0), round_)
                    value = event(invoice)
                    if len(value) > max_bytes:
                        raise LineError(f"a message of {len(value):,} bytes, more than MAX_MESSAGE_BYTES={max_bytes}")
                except LineError as error:
                    reason = f"invoice {original.number}, round {round_ + 1}: {error}"
                    rejects.write([Reject(str(file), original.first_line, reason, "")])
                    continue
                any_sent = True
                yield Message(
                    record_key(invoice),
                    value,
                    len(invoice.lines),
                    invoice.date,
                    Position(name, i, round_, options.shift_days),
                    (done + sizes[file] * i / len(invoices)) / total,
                )
            done += sizes[file]
        if not loop_days or not (any_sent or start):
            return
        start = None
        todo = remaining(files, None)


class _Watch:
    """Looks now and then at what was acknowledged, and tells how far it is."""

    def __init__(self, sender: Sender[Position], on_progress: Callable[[Progress], None]) -> None:
        self._sender, self._on_progress = sender, on_progress
        self._next = time.monotonic() + _TICK_SECONDS
        self._told: Position | None = None
        self.progress = Progress(0.0, 0, 0, 0)

    def look(self) -> None:
        if time.monotonic() >= self._next:
            self._sender.collect()
            self.tell()
            self._next = time.monotonic() + _TICK_SECONDS

    def tell(self) -> None:
        mark = self._sender.mark
        self._on_progress(self.progress._replace(acknowledged=mark if mark != self._told else None))
        self._told = mark

    def wait(self, seconds: float, stop: Event) -> None:
        """Wait so long, or until it is stopped."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not stop.wait(min(left, _TICK_SECONDS)):
            self.look()


def replay(
    options: Options,
    sender: Sender[Position],
    rejects: RejectFile,
    stop: Event,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Send the files' invoices, and wait until the last is acknowledged; `stop` ends it before the next invoice.

    `on_progress` is told now and then, and at the end, whatever ends it. Raises PositionError, HeaderError and what the
    sender raises.
    """
    began = time.monotonic()
    acknowledged_before = sender.acknowledged
    watch = _Watch(sender, on_progress)
    try:
        for message in messages(options, rejects, sender.max_message_bytes):
            if (seconds := options.pace.wait_for(message.date)) > 0:
                watch.wait(seconds, stop)
            if stop.is_set():
                break
            sender.send(message.key, message.value, message.position)
            sent = watch.progress.invoices + 1
            fraction = message.fraction if options.limit is None else max(message.fraction, sent / options.limit)
            watch.progress = Progress(fraction, sent, watch.progress.lines + message.lines, rejects.count)
            watch.look()
            if sent == options.limit:
                break
        sender.flush()
    finally:
        watch.progress = watch.progress._replace(rejected=rejects.count)
        watch.tell()
    return Summary(
        sender.acknowledged - acknowledged_before,
        watch.progress.lines,
        rejects.count,
        time.monotonic() - began,
        stop.is_set(),
    )
