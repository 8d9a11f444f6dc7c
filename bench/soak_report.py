"""What a soak measured, and what is to be said of it: verdicts, CSV files, one picture."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # matplotlib takes a second to import: not for --help
    from matplotlib.axes import Axes

CUSTOMER = "customer"  # grows with the customers, so it is judged by the row
FLAT_TABLES = ("quintile_cut", "score_total", "shop", "stream_position", "stream_total", "stream_writer", "pg_catalog")
GROWING_TABLES = ("invoice", "segment_change", "batch", "segment_trend", "segment_flow_total")
MB = 1_000_000
_MOST_GROWTH = 1.1  # of memory and of flat tables, from minute 5 to the end
_MOST_LATENCY = 1.2
_SHADE = "#dde6f0"
_SMALL_TABLE = 0.5  # MB: growth below this is a page more or less

Window = tuple[float, float]  # seconds after the first sample


@dataclass(frozen=True)
class TableSize:
    """A table's megabytes, indexes included, its rows and those that are dead, by PostgreSQL's statistics."""

    megabytes: float
    live: int
    dead: int


@dataclass(frozen=True)
class Sample:
    """One moment. Memory in megabytes, each page that processes share counted once (PSS); `shared_buffers` is
    PostgreSQL's cache, which fills up to its setting, `postgres` the rest of it; `processor`: cores busy on the whole
    machine since the sample before."""

    seconds: float
    driver_jvm: float
    driver_python: float
    broker: float
    postgres: float
    shared_buffers: float
    database: float
    checkpoint_files: int
    processor: float
    tables: dict[str, TableSize] = field(default_factory=dict)

    @property
    def driver(self) -> float:
        return self.driver_jvm + self.driver_python

    @property
    def bytes_per_customer(self) -> float:
        size = self.tables[CUSTOMER]
        return size.megabytes * MB / max(1, size.live)


class Minute(NamedTuple):
    """The invoices that Kafka took in one minute of the traffic, and their latency to PostgreSQL's commit, ms."""

    minute: int
    invoices: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Verdict:
    """Whether something stayed as it must: at minute 5, at the end, and the bound, in words."""

    what: str
    early: str
    late: str
    bound: str
    is_met: bool


@dataclass
class Soak:
    """What was measured; `p99` of the two windows that are compared, milliseconds, None without invoices in one."""

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    minutes: list[Minute] = field(default_factory=list)
    p99: tuple[float, float] | None = None


def windows(seconds: float) -> tuple[Window, Window]:
    """What is compared: minutes 3 to 7 (minute 5, and two on each side) with the last 5; of a run of less than 12
    minutes, its second third with its last."""
    if seconds >= 12 * 60:
        return (3 * 60, 7 * 60), (seconds - 5 * 60, seconds)
    return (seconds / 3, seconds * 2 / 3), (seconds * 2 / 3, seconds)


def memory_windows(seconds: float) -> tuple[Window, Window]:
    """What is compared of memory: minutes 10 to 15 with the last 5, because a JVM loads classes, compiles and fills
    its first heap until then; a leak goes on. Of a run of less than 20 minutes, what `windows` says."""
    early, late = windows(seconds)
    return (10 * 60, 15 * 60) if seconds >= 20 * 60 else early, late


def verdicts(soak: Soak) -> list[Verdict]:
    """Memory of each part, the tables that must not grow, and the latency."""
    early, late = windows(soak.seconds)
    judged = [
        _growth(soak, f"memory, MB: {name}", value, *memory_windows(soak.seconds))
        for name, value in (
            ("driver, JVM and Python", lambda s: s.driver),
            ("broker", lambda s: s.broker),
            ("PostgreSQL, no shared buffers", lambda s: s.postgres),
        )
    ]
    judged.append(_growth(soak, "table customer, bytes a row", lambda s: s.bytes_per_customer, early, late))
    judged += [
        _growth(soak, f"table {name}, MB", _megabytes_of(name), early, late, _SMALL_TABLE) for name in FLAT_TABLES
    ]
    judged.append(_growth(soak, "checkpoints, files", lambda s: s.checkpoint_files, early, late, 10))
    if soak.p99 is None:
        judged.append(Verdict("latency, p99 in ms", "", "", "no invoices in one of the windows", False))
    else:
        first, last = soak.p99
        bound = f"at most {_MOST_LATENCY:g} x"
        judged.append(
            Verdict("latency, p99 in ms", f"{first:,.0f}", f"{last:,.0f}", bound, last <= _MOST_LATENCY * first)
        )
    return judged


def _megabytes_of(table: str) -> Callable[[Sample], float]:
    return lambda sample: sample.tables[table].megabytes


def _growth(
    soak: Soak, what: str, value: Callable[[Sample], float], early: Window, late: Window, free: float = 0
) -> Verdict:
    """The mean of two windows, and the slope from the first one on by least squares."""
    first, last = (mean(map(value, within(soak.samples, window)) or [0]) for window in (early, late))
    since = [s for s in soak.samples if s.seconds >= early[0]]
    slope = 0.0
    if len(since) > 1:
        slope = float(np.polyfit([s.seconds / 3600 for s in since], [value(s) for s in since], 1)[0])
    shown = "{:,.2f}" if first < 10 else "{:,.0f}"
    bound = f"at most {_MOST_GROWTH:g} x" + (f" or + {free:g}" if free else "")
    return Verdict(
        what,
        shown.format(first),
        f"{shown.format(last)} ({slope:+,.1f}/h)",
        bound,
        last <= max(_MOST_GROWTH * first, first + free),
    )


def within(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """The samples of a window; of a short run at least its nearest one."""
    inside = [s for s in samples if window[0] <= s.seconds <= window[1]]
    return inside or [min(samples, key=lambda s: abs(s.seconds - window[1]))]


def write_csv(soak: Soak, folder: Path) -> None:
    """samples.csv (a row a sample), tables.csv (a row a sample and table), latency.csv (a row a minute)."""
    names = [f.name for f in fields(Sample) if f.name != "tables"]
    _write(folder / "samples.csv", names, ([getattr(s, name) for name in names] for s in soak.samples))
    _write(
        folder / "tables.csv",
        ["seconds", "table", *(f.name for f in fields(TableSize))],
        ([s.seconds, table, *asdict(size).values()] for s in soak.samples for table, size in s.tables.items()),
    )
    _write(folder / "latency.csv", Minute._fields, soak.minutes)


def _write(file: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows([f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in rows)


def draw(soak: Soak, file: Path) -> None:
    """Write the picture (PNG). Minutes of traffic on each x-axis; the shaded spans are the two that are compared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 11), dpi=100, layout="constrained")
    panels = figure.subplots(3, 2).flat
    at = [s.seconds / 60 for s in soak.samples]

    memory = _panel(next(panels), soak, "memory, MB (shared pages counted once)", memory_windows)
    for name, label in (
        ("driver_jvm", "driver, JVM"),
        ("driver_python", "driver, Python"),
        ("broker", "broker"),
        ("shared_buffers", "PostgreSQL's\nshared buffers"),
        ("postgres", "PostgreSQL's\nother memory"),
    ):
        memory.plot(at, [getattr(s, name) for s in soak.samples], label=label)

    latency = _panel(next(panels), soak, "latency by minute, Kafka to the commit in PostgreSQL, ms")
    middle = [m.minute + 0.5 for m in soak.minutes]
    latency.plot(middle, [m.p99 for m in soak.minutes], "o-", label="p99")
    latency.plot(middle, [m.p50 for m in soak.minutes], "o-", label="p50")

    flat = _panel(next(panels), soak, "tables that must not grow: size with indexes, MB")
    for name in FLAT_TABLES:
        flat.plot(at, [s.tables[name].megabytes for s in soak.samples], label=name)
    flat.set_yscale("log")

    dead = _panel(next(panels), soak, "dead rows")
    for name in (CUSTOMER, *FLAT_TABLES):
        dead.plot(at, [s.tables[name].dead for s in soak.samples], label=name, linewidth=1)
    dead.set_yscale("symlog", linthresh=1)

    growing = _panel(next(panels), soak, "grow with the data: size with indexes, MB")
    growing.plot(at, [s.database for s in soak.samples], "k", label="whole database")
    for name in (*GROWING_TABLES, CUSTOMER):
        growing.plot(at, [s.tables[name].megabytes for s in soak.samples], label=name)

    customer = _panel(next(panels), soak, "table customer, bytes a row, with indexes; processor")
    customer.plot(at, [s.bytes_per_customer for s in soak.samples], label="bytes a\ncustomer")
    busy = customer.twinx()
    busy.plot(at, [s.processor for s in soak.samples], "k", linewidth=0.8)
    busy.set_ylabel("cores busy on the machine (thin)")
    busy.set_ylim(0, None)

    for axes in (memory, latency, growing, customer, dead):
        axes.set_ylim(bottom=0)
    for axes in (memory, latency, flat, dead, growing):
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    invoices = sum(m.invoices for m in soak.minutes)
    figure.suptitle(f"{invoices:,} invoices in {soak.seconds / 60:.0f} minutes")
    figure.savefig(file)


def _panel(axes: Axes, soak: Soak, title: str, compared: Callable[[float], tuple[Window, Window]] = windows) -> Axes:
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_xlabel("minute")
    axes.grid(alpha=0.3)
    axes.set_xlim(0, soak.seconds / 60)
    for begin, end in compared(soak.seconds):
        axes.axvspan(begin / 60, end / 60, color=_SHADE, zorder=0)
    return axes
