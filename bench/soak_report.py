"""What a soak measured, and the conclusions: verdicts, CSV files, one plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # matplotlib takes a second to import: not for --help
    from matplotlib.axes import Axes

CUSTOMER = "customer"  # grows with the customers, so it is judged by the row
FLAT_TABLES = ("quintile_cut", "score_total", "shop", "next_offset", "stream_total", "stream_writer", "pg_catalog")
GROWING_TABLES = ("invoice", "segment_change", "batch", "segment_trend", "segment_flow_total")
MEMORY = ("driver_jvm", "driver_python", "broker", "shared_buffers", "postgres")
_MOST_GROWTH = 1.1  # of memory and of flat tables, from minute 5 to the end
_MOST_LATENCY = 1.2
_SMALL_TABLE = 0.5  # MB: growth below this is a page more or less

Windows = tuple[tuple[float, float], tuple[float, float]]  # seconds after the first sample


@dataclass(frozen=True)
class Verdict:
    """Whether something stayed within bounds: at minute 5, at the end, and the bound, in words."""

    what: str
    early: str
    late: str
    bound: str
    is_met: bool


@dataclass
class Soak:
    """What was measured.

    `samples`: a moment each, megabytes: `driver_jvm`, `driver_python`, `broker`, `postgres` and PostgreSQL's cache
    `shared_buffers`, each page that processes share counted once (PSS); `database`; `NAME MB` (with indexes),
    `NAME rows` and `NAME dead` of each table; also `seconds`, `checkpoint_files`, and `processor`, the cores busy on
    the machine. `minutes`: minute, invoices that Kafka took in it, p50 and p99 of their latency, ms. `p99` of the two
    windows that are compared, ms, None without invoices in one.
    """

    seconds: float
    samples: list[dict[str, float]] = field(default_factory=list)
    minutes: pd.DataFrame = field(default_factory=pd.DataFrame)
    p99: tuple[float, float] | None = None

    def frame(self) -> pd.DataFrame:
        """The samples by their seconds, with what is worked out of them."""
        found = pd.DataFrame(self.samples).set_index("seconds")
        found["driver"] = found["driver_jvm"] + found["driver_python"]
        found["bytes a customer"] = found[f"{CUSTOMER} MB"] * 1e6 / found[f"{CUSTOMER} rows"].clip(lower=1)
        return found


def windows(seconds: float) -> Windows:
    """What is compared: minutes 3 to 7 (minute 5, and two on each side) with the last 5; for a run of less than 12
    minutes, its second third with its last."""
    if seconds >= 12 * 60:
        return (3 * 60, 7 * 60), (seconds - 5 * 60, seconds)
    return (seconds / 3, seconds * 2 / 3), (seconds * 2 / 3, seconds)


def memory_windows(seconds: float) -> Windows:
    """What is compared for memory: minutes 10 to 15 with the last 5, because until then a JVM loads classes, compiles
    and fills its first heap; a leak continues. For a run of less than 20 minutes, as in `windows`."""
    early, late = windows(seconds)
    return (10 * 60, 15 * 60) if seconds >= 20 * 60 else early, late


def verdicts(soak: Soak) -> list[Verdict]:
    """Memory of each part, the tables that must not grow, and the latency."""
    frame, both = soak.frame(), windows(soak.seconds)
    memory = {"driver, JVM and Python": "driver", "broker": "broker", "PostgreSQL, no shared buffers": "postgres"}
    judged = [_growth(f"memory, MB: {what}", frame[key], memory_windows(soak.seconds)) for what, key in memory.items()]
    judged.append(_growth("table customer, bytes a row", frame["bytes a customer"], both))
    judged += [_growth(f"table {name}, MB", frame[f"{name} MB"], both, _SMALL_TABLE) for name in FLAT_TABLES]
    judged.append(_growth("checkpoints, files", frame["checkpoint_files"], both, 10))
    what, bound = "latency, p99 in ms", f"at most {_MOST_LATENCY:g} x"
    if soak.p99 is None:
        return [*judged, Verdict(what, "", "", "no invoices in one of the windows", False)]
    early, late = soak.p99
    return [*judged, Verdict(what, f"{early:,.0f}", f"{late:,.0f}", bound, late <= _MOST_LATENCY * early)]


def _growth(what: str, values: pd.Series, both: Windows, free: float = 0) -> Verdict:
    """The mean of two windows, and the slope from the first one on by least squares."""
    early, late = (within(values, window) for window in both)
    since = values.loc[both[0][0] :]
    slope = float(np.polyfit(since.index / 3600, since, 1)[0]) if len(since) > 1 else 0.0
    shown = "{:,.2f}" if early < 10 else "{:,.0f}"
    bound = f"at most {_MOST_GROWTH:g} x" + (f" or + {free:g}" if free else "")
    is_met = late <= max(_MOST_GROWTH * early, early + free)
    return Verdict(what, shown.format(early), f"{shown.format(late)} ({slope:+,.1f}/h)", bound, is_met)


def within(values: pd.Series, window: tuple[float, float]) -> float:
    """The mean of a window's samples; in a short run at least its nearest one."""
    inside = values.loc[window[0] : window[1]]
    return float(inside.mean() if len(inside) else values.iloc[np.abs(values.index - window[1]).argmin()])


def write_csv(soak: Soak, folder: Path) -> None:
    """samples.csv (a row a sample) and latency.csv (a row a minute)."""
    pd.DataFrame(soak.samples).to_csv(folder / "samples.csv", index=False, float_format="%.3f")
    soak.minutes.to_csv(folder / "latency.csv", index=False, float_format="%.3f")


def draw(soak: Soak, file: Path) -> None:
    """Write the picture (PNG). Minutes of traffic on each x-axis; the shaded spans are the two that are compared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 11), dpi=100, layout="constrained")
    panels = figure.subplots(3, 2).flat
    frame = soak.frame()
    frame.index = frame.index / 60

    def tables(names: tuple[str, ...], what: str) -> pd.DataFrame:
        return frame[[f"{name} {what}" for name in names]].set_axis(names, axis=1)

    latency = soak.minutes.set_index(soak.minutes["minute"] + 0.5)[["p99", "p50"]]
    growing = tables((*GROWING_TABLES, CUSTOMER), "MB").assign(**{"whole database": frame["database"]})
    flat, dead = tables(FLAT_TABLES, "MB"), tables((CUSTOMER, *FLAT_TABLES), "dead")
    a_row = frame[["bytes a customer"]]
    _panel(next(panels), soak, "memory, MB (shared pages counted once)", frame[[*MEMORY]], memory_windows)
    _panel(next(panels), soak, "latency by minute, Kafka to the commit in PostgreSQL, ms", latency, marker="o")
    _panel(next(panels), soak, "tables that must not grow: size with indexes, MB", flat, scale="log")
    _panel(next(panels), soak, "dead rows", dead, scale="symlog")
    _panel(next(panels), soak, "grow with the data: size with indexes, MB", growing)
    busy = _panel(next(panels), soak, "table customer, bytes a row, with indexes; processor", a_row).twinx()
    busy.plot(frame["processor"], "k", linewidth=0.8)
    busy.set_ylabel("cores busy on the machine (thin)")
    busy.set_ylim(0, None)
    invoices = int(soak.minutes["invoices"].sum())
    figure.suptitle(f"{invoices:,} invoices in {soak.seconds / 60:.0f} minutes")
    figure.savefig(file)


def _panel(
    axes: Axes,
    soak: Soak,
    title: str,
    lines: pd.DataFrame,
    compared: Callable[[float], Windows] = windows,
    marker: str = "",
    scale: str = "linear",
) -> Axes:
    lines.plot(ax=axes, marker=marker, grid=True, xlabel="minute", xlim=(0, soak.seconds / 60))
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_yscale(scale)
    if scale != "log":
        axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)).set_visible(len(lines.columns) > 1)
    for begin, end in compared(soak.seconds):
        axes.axvspan(begin / 60, end / 60, color="#dde6f0", zorder=0)
    return axes
