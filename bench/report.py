"""The report: tables, plots and the list of what we lose, from the stored results; nothing is measured here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.results import OURS, Figure, Part, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_FOLDER = Path(__file__).parent
TEMPLATE = _FOLDER / "benchmarks.md.template"
REASONS = _FOLDER / "reasons.toml"
_PLACE = re.compile(r"\{\{ ?([\w-]+)(?: ([\w-]+))? ?\}\}")
_LOST = 1.1  # times better than ours


@dataclass(frozen=True)
class Column:
    """A column of a part's table: the figure's key, its heading, how it is written, and whether less or more is
    better (None: it is no contest)."""

    key: str
    heading: str
    format: str = "{:,.0f}"
    better: str | None = None
    leads: bool = False
    """Whether the summary shows it."""

    def text(self, figures: Mapping[str, Figure]) -> str:
        value = figures.get(self.key)
        if value is None:
            return "–"
        return value if isinstance(value, str) else self.format.format(value)


_SECONDS = Column("seconds", "seconds, start included", "{:,.1f}", "less", leads=True)
_PEAK = Column("peak_mb", "peak memory, MB", better="less")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "catch-up": (
        _SECONDS,
        Column("lines_per_second", "lines/s, start included"),
        Column("warm_lines_per_second", "lines/s once it writes", better="more"),
        _PEAK,
        Column("read_ms", "reading all scores then, ms", better="less"),
        Column("crash", "a kill and a restart"),
    ),
    "freshness": (
        Column("p50_ms", "p50, ms", better="less", leads=True),
        Column("p99_ms", "p99, ms", better="less", leads=True),
        Column("behind_per_second", "falls behind by, invoices/s"),
        Column("sent_per_second", "sent, invoices/s"),
        Column("cores", "cores busy", "{:,.2f}"),
        _PEAK,
    ),
    "scores": (
        Column("ms", "ms a batch", better="less", leads=True),
        Column("rescored", "customers scored anew"),
        Column("added_mb", "memory in the client, MB"),
        Column("bootstrap_seconds", "first scoring, s", "{:,.1f}"),
    ),
    "rules": (
        Column("seconds", "baskets → rules, s", "{:,.2f}", "less", leads=True),
        Column("step_seconds", "of it the rule step, s", "{:,.2f}"),
        Column("rules", "rules"),
        _PEAK,
    ),
    "nightly": (_SECONDS, Column("rules", "rules"), _PEAK),
    "growth-lines": (
        Column("lines", "lines"),
        Column("seconds", "seconds, start included", "{:,.1f}"),
        Column("warm_lines_per_second", "lines/s once it writes"),
        Column("peak_mb", "peak memory, MB"),
    ),
    "growth-rules": (
        Column("itemsets", "itemsets"),
        Column("rules", "rules"),
        Column("mine_seconds", "mining, s", "{:,.2f}"),
        Column("measure_seconds", "rule step, s", "{:,.2f}"),
        Column("refused_seconds", "refused after, s", "{:,.2f}"),
    ),
}
PARTS = tuple(COLUMNS)


def _markdown(headings: Mapping[str, str], rows: Iterable[Sequence[str]]) -> str:
    """A table; heading → its alignment ("---", to the right: "--:")."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [[*headings], [*headings.values()], *rows])


def _named(way: str, remark: str = "") -> str:
    return (f"**{way}**" if way.startswith(OURS) else way) + remark


def table(part: Part) -> str:
    """A part's rows as a Markdown table; columns that no row has are left out, notes are numbered below it."""
    columns = [c for c in COLUMNS[part.name] if any(row.figures.get(c.key) is not None for row in part.rows)]
    cases, ways = ({getattr(row, name) for row in part.rows} for name in ("case", "way"))
    shows_case, shows_way = len(cases) > 1, len(ways) > 1 or len(cases) == 1
    headings = ({"": "---"} if shows_case else {}) | ({"way": "---"} if shows_way else {})
    headings |= {c.heading: "---" if c.key == "crash" else "--:" for c in columns}
    notes: list[str] = []
    rows: list[list[str]] = []
    last_case = None
    for row in part.rows:
        mark = ""
        if remark := ("**wrong**: " + row.wrong if row.wrong else row.note):
            notes.append(f"({len(notes) + 1}) {row.way}, {row.case}: {remark}  ")
            mark = f" ({len(notes)})"
        lead = [] if not shows_case else ["" if row.case == last_case else row.case + ("" if shows_way else mark)]
        last_case = row.case
        way = [_named(row.way, mark)] if shows_way else []
        rows.append([*lead, *way, *(c.text(row.figures) for c in columns)])
    parts = [*([] if shows_case else [f"{part.rows[0].case}:\n"]), _markdown(headings, rows)]
    return "\n".join(parts + ([""] if notes else []) + notes)


def _contests(part: Part, column: Column) -> Iterator[tuple[Row, list[Row]]]:
    """Each case's first row of ours and the rows of the others that have the figure; a wrong one is none."""
    for case in dict.fromkeys(row.case for row in part.rows):
        of_case = sorted((row for row in part.rows if row.case == case), key=lambda row: not row.is_ours)
        others = [r for r in of_case if not r.is_ours and isinstance(r.figures.get(column.key), int | float)]
        if of_case[0].is_ours and of_case[0].figures.get(column.key) is not None and others:
            yield of_case[0], others


def summary(parts: Mapping[str, Part]) -> str:
    """One Markdown table of all contests but memory: ours, the best of the others and the worst, in each case."""
    rows = []
    for part in parts.values():
        for column in (c for c in COLUMNS[part.name] if c.leads):
            for ours, others in _contests(part, column):
                ranked = sorted(others, key=lambda row: _float(row, column.key), reverse=column.better == "more")
                named = [f"{column.text(row.figures)} ({row.way})" for row in ranked]
                work = f"{part.name}, {ours.case}: {column.heading}"
                rows.append([work, f"**{column.text(ours.figures)}**", named[0], named[-1] if named[1:] else "–"])
    headings = {"work": "---", "ours": "--:", "the best of the others": "---", "the worst of them": "---"}
    return _markdown(headings, rows)


def memory(parts: Mapping[str, Part]) -> str:
    """The most memory that each way held in any of a part's cases, a row a way."""
    held = pd.DataFrame(
        [(name, row.way, row.figures.get(_PEAK.key)) for name in parts for row in parts[name].rows if name in _HELD],
        columns=["part", "way", "mb"],
    ).dropna()
    if held.empty:
        return "Not measured."
    most = held.astype({"mb": float}).pivot_table(index="way", columns="part", values="mb", aggfunc="max")
    most = most.reindex(index=held.way.unique(), columns=[name for name in _HELD if name in most])
    cells = most.map(lambda mb: "–" if pd.isna(mb) else f"{mb:,.0f}")
    rows = [[_named(str(way)), *row] for way, row in zip(cells.index, cells.to_numpy(), strict=True)]
    return _markdown({"way": "---"} | {str(part): "--:" for part in most}, rows)


_HELD = ("catch-up", "freshness", "rules", "nightly")


def losses(parts: Mapping[str, Part]) -> str:
    """Where a peer beats ours by a tenth or more: by part and figure, with why and what it would take (`reasons.toml`).

    Raises KeyError for a loss that is not explained.
    """
    reasons = tomllib.loads(REASONS.read_text())
    lines = []
    for name, part in parts.items():
        for column in (c for c in COLUMNS[name] if c.better):
            worst: dict[str, tuple[float, str]] = {}
            for ours, others in _contests(part, column):
                for peer in others:
                    a, b = _float(ours, column.key), _float(peer, column.key)
                    times = (a / b if column.better == "less" else b / a) if a > 0 and b > 0 else 0
                    if times >= max(_LOST, worst.get(peer.way, (0.0, ""))[0]):
                        texts = f"{column.text(peer.figures)} against {column.text(ours.figures)}"
                        worst[peer.way] = times, f"{peer.way} {texts} ({times:,.1f} times, {ours.case})"
            if worst:
                if column.key not in reasons.get(name, {}):
                    raise KeyError(f"reasons.toml does not say why we lose at {name}, {column.key}: to {min(worst)}")
                peers = "; ".join(text for _, text in sorted(worst.values(), reverse=True))
                lines.append(f"* **{name}, {column.heading}**: {peers}. {reasons[name][column.key].strip()}")
    return "\n".join(lines) or "Nowhere in these tables."


def render(parts: Mapping[str, Part], docs: Path) -> Path:
    """Write `benchmarks.md` and the pictures, from the template and the results; returns the file."""
    pictures = docs / "benchmarks"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in parts.keys() & PICTURES.keys():
        _draw(PICTURES[name], parts[name], pictures / f"{name}.png")
    text = _PLACE.sub(lambda found: _filled(found[1], found[2], parts), TEMPLATE.read_text())
    path = docs / "benchmarks.md"
    path.write_text(text)
    return path


def _filled(what: str, name: str | None, parts: Mapping[str, Part]) -> str:
    match what, name:
        case "table", str():
            return table(parts[name]) if name in parts else "Not measured."
        case "figure", str():
            return f"![{name}](benchmarks/{name}.png)" if name in parts else ""
        case "command", _:
            return next(iter(parts.values())).command if parts else "make bench"
        case _:
            return {"memory": memory, "summary": summary, "losses": losses, "machine": measured}[what](parts)


def measured(parts: Mapping[str, Part]) -> str:
    """Where, when and with what: of all parts, or of those measured on each machine by themselves."""
    lines = []
    machines = list(dict.fromkeys(part.machine for part in parts.values()))
    for machine in machines:
        here = [part for part in parts.values() if part.machine == machine]
        these = f" ({', '.join(part.name for part in here)})" if len(machines) > 1 else ""
        lines.append(f"Machine{these}: {machine}. Broker, database and every way share it.")
        begun = sorted({part.started_at for part in here})
        when = begun[0] if len(begun) == 1 else f"{begun[0]} to {begun[-1]}"
        minutes = sum(part.seconds for part in here) / 60
        loads = ", ".join(f"{part.name} {part.load:.1f}" for part in here)
        lines.append(f"Measured: {when}, {minutes:.0f} minutes in all; load before each part: {loads}.")
    versions = [(package, version) for part in parts.values() for package, version in part.versions.items()]
    packages = dict.fromkeys(package for package, _ in versions)
    used = {package: dict.fromkeys(version for name, version in versions if name == package) for package in packages}
    lines.append("Versions: " + ", ".join(f"{package} {' and '.join(those)}" for package, those in used.items()) + ".")
    return "\n\n".join(lines)


def _draw(fill: Callable[[Canvas, Part], None], part: Part, path: Path) -> None:
    from matplotlib.figure import Figure as NewCanvas

    canvas = NewCanvas(figsize=(9, 4.2), dpi=110, layout="constrained")
    fill(canvas, part)
    canvas.savefig(path, metadata={"Software": None})


def _bars(axes: Axes, rows: Sequence[Row], column: Column, log: bool = False) -> None:
    shown = [row for row in rows if row.figures.get(column.key) is not None][::-1]
    colours = ["#c0392b" if row.is_ours else "#7f8c8d" for row in shown]
    bars = axes.barh([row.way for row in shown], [_float(row, column.key) for row in shown], color=colours, log=log)
    axes.bar_label(bars, [column.text(row.figures) for row in shown], padding=3, fontsize=8)
    axes.set_xlabel(column.heading)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _lines(axes: Axes, part: Part, column: Column) -> None:
    """The figure of each way by the number that the case begins with."""
    for way in dict.fromkeys(row.way for row in part.rows):
        rows = [row for row in part.rows if row.way == way and row.figures.get(column.key) is not None]
        numbers = [float(row.case.split()[0].replace(",", "")) for row in rows]
        width = 2.5 if way.startswith(OURS) else 1.2
        axes.loglog(numbers, [_float(row, column.key) for row in rows], marker="o", label=way, linewidth=width)
    axes.set_xlabel(" ".join(part.rows[0].case.split()[1:]))
    axes.set_ylabel(column.heading)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _float(row: Row, key: str) -> float:
    return float(row.figures[key] or 0)


def _catch_up(canvas: Canvas, part: Part) -> None:
    left, right = canvas.subplots(1, 2, sharey=True)
    _bars(left, part.rows, _SECONDS)
    _bars(right, part.rows, _PEAK)
    canvas.suptitle(f"Catch-up of {part.rows[0].case}", fontsize=11)


def _freshness(canvas: Canvas, part: Part) -> None:
    left, right = canvas.subplots(1, 2, sharey=True)
    for axes, column in zip((left, right), COLUMNS["freshness"], strict=False):
        _lines(axes, part, column)
    canvas.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=6)
    canvas.suptitle("From Kafka's timestamp to visible in the mart (a way that falls behind has no point)", fontsize=11)


def _scores(canvas: Canvas, part: Part) -> None:
    axes = canvas.subplots()
    _lines(axes, part, COLUMNS["scores"][0])
    axes.legend(fontsize=8)
    canvas.suptitle("All scores current after a batch of 1,000 changed customers", fontsize=11)


def _rules(canvas: Canvas, part: Part) -> None:
    cases = list(dict.fromkeys(row.case for row in part.rows))
    canvas.set_size_inches(9, 1.4 + 1.9 * len(cases))
    for axes, case in zip(canvas.subplots(len(cases), 1, squeeze=False)[:, 0], cases, strict=True):
        _bars(axes, [row for row in part.rows if row.case == case], COLUMNS["rules"][0], log=True)
        axes.set_title(case, fontsize=9)


PICTURES = {"catch-up": _catch_up, "freshness": _freshness, "scores": _scores, "rules": _rules}
