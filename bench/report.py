"""The report: tables, figures and the list of what we lose, from the kept results; nothing is measured here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import OURS, Figure, Part, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_FOLDER = Path(__file__).parent
TEMPLATE = _FOLDER / "benchmarks.md.template"
REASONS = _FOLDER / "reasons.toml"
_PLACE = re.compile(r"\{\{ ?([\w-]+)(?: ([\w-]+))? ?\}\}")


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


COLUMNS: dict[str, tuple[Column, ...]] = {
    "catch-up": (
        Column("seconds", "seconds, start included", "{:,.1f}", "less", leads=True),
        Column("lines_per_second", "lines/s, start included", "{:,.0f}"),
        Column("warm_lines_per_second", "lines/s once it writes", "{:,.0f}", "more"),
        Column("peak_mb", "peak memory, MB", "{:,.0f}", "less"),
        Column("read_ms", "reading all scores then, ms", "{:,.0f}", "less"),
        Column("crash", "a kill and a restart"),
    ),
    "freshness": (
        Column("p50_ms", "p50, ms", "{:,.0f}", "less", leads=True),
        Column("p99_ms", "p99, ms", "{:,.0f}", "less", leads=True),
        Column("behind_per_second", "falls behind by, invoices/s"),
        Column("sent_per_second", "sent, invoices/s"),
        Column("cores", "cores busy", "{:,.2f}"),
        Column("peak_mb", "peak memory, MB", "{:,.0f}", "less"),
    ),
    "scores": (
        Column("ms", "ms a batch", "{:,.0f}", "less", leads=True),
        Column("rescored", "customers scored anew"),
        Column("added_mb", "memory in the client, MB", "{:,.0f}"),
    ),
    "rules": (
        Column("seconds", "baskets → rules, s", "{:,.2f}", "less", leads=True),
        Column("step_seconds", "of it the rule step, s", "{:,.2f}"),
        Column("rules", "rules"),
        Column("peak_mb", "peak memory, MB", "{:,.0f}", "less"),
    ),
    "nightly": (
        Column("seconds", "seconds, start included", "{:,.1f}", "less", leads=True),
        Column("rules", "rules"),
        Column("peak_mb", "peak memory, MB", "{:,.0f}", "less"),
    ),
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


def table(part: Part) -> str:
    """A part's rows as a Markdown table; columns that no row has are left out, notes are numbered below it."""
    columns = [c for c in COLUMNS[part.name] if any(row.figures.get(c.key) is not None for row in part.rows)]
    one_case = len({row.case for row in part.rows}) == 1
    one_way = len({row.way for row in part.rows}) == 1
    lead = [*(() if one_case else ("",)), *(() if one_way and not one_case else ("way",))]
    lines = [
        "| " + " | ".join([*lead, *(c.heading for c in columns)]) + " |",
        "| " + " | ".join(["---"] * len(lead) + ["--:" if c.key != "crash" else "---" for c in columns]) + " |",
    ]
    notes: list[str] = []
    last_case = None
    for row in part.rows:
        cells = [] if one_case else ["" if row.case == last_case else row.case]
        last_case = row.case
        mark = ""
        if remark := ("**wrong**: " + row.wrong if row.wrong else row.note):
            notes.append(f"{row.way}, {row.case}: {remark}")
            mark = f" ({len(notes)})"
        if not (one_way and not one_case):
            cells.append((f"**{row.way}**" if row.is_ours else row.way) + mark)
        elif mark:
            cells[-1] = row.case + mark
        lines.append("| " + " | ".join([*cells, *(c.text(row.figures) for c in columns)]) + " |")
    if one_case:
        lines = [f"{part.rows[0].case}:", "", *lines]
    return "\n".join([*lines, *(("",) if notes else ()), *(f"({n}) {note}  " for n, note in enumerate(notes, 1))])


def summary(parts: Mapping[str, Part]) -> str:
    """One Markdown table of all contests but memory: ours, the best of the others and the worst, in each case."""
    lines = ["| work | ours | the best of the others | the worst of them |", "| --- | --: | --- | --- |"]
    for part in parts.values():
        for column in COLUMNS[part.name]:
            if not column.better or not column.leads:
                continue
            for ours, others in _contests(part.rows):
                measured = [row for row in others if isinstance(row.figures.get(column.key), int | float)]
                measured.sort(key=lambda row: _float(row, column.key), reverse=column.better == "more")
                if not measured or ours.figures.get(column.key) is None:
                    continue
                best, worst = (f"{column.text(row.figures)} ({row.way})" for row in (measured[0], measured[-1]))
                work = f"{part.name}, {ours.case}: {column.heading}"
                lines.append(
                    f"| {work} | **{column.text(ours.figures)}** | {best} | {worst if len(measured) > 1 else '–'} |"
                )
    return "\n".join(lines)


def memory(parts: Mapping[str, Part]) -> dict[str, dict[str, int]]:
    """Part → way → the most memory that it held in any of the part's cases, in MB."""
    found: dict[str, dict[str, int]] = {}
    for name in ("catch-up", "freshness", "rules", "nightly"):
        for row in parts[name].rows if name in parts else ():
            if row.figures.get("peak_mb") is not None:
                held = found.setdefault(name, {})
                held[row.way] = max(held.get(row.way, 0), int(_float(row, "peak_mb")))
    return found


def memory_table(parts: Mapping[str, Part]) -> str:
    """`memory` as a Markdown table, a row a way."""
    held = memory(parts)
    ways = dict.fromkeys(way for of_part in held.values() for way in of_part)
    lines = [
        "| way | " + " | ".join(held) + " |",
        "| --- | " + " | ".join(["--:"] * len(held)) + " |",
    ]
    for way in ways:
        name = f"**{way}**" if way.startswith(OURS) else way
        cells = [f"{held[part][way]:,}" if way in held[part] else "–" for part in held]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Loss:
    """A peer that is better than ours at something, by how many times."""

    part: str
    case: str
    measure: str
    way: str
    times: float
    ours: str
    theirs: str


def losses(parts: Mapping[str, Part], at_least: float = 1.1) -> list[Loss]:
    """Where a peer beats ours (the first of our ways in the case) by at least so many times."""
    found = []
    for part in parts.values():
        for column in COLUMNS[part.name]:
            if column.better is None:
                continue
            for ours, peer in ((ours, peer) for ours, others in _contests(part.rows) for peer in others):
                a, b = ours.figures.get(column.key), peer.figures.get(column.key)
                if isinstance(a, int | float) and isinstance(b, int | float) and a > 0 and b > 0:
                    times = a / b if column.better == "less" else b / a
                    if times >= at_least:
                        texts = column.text(ours.figures), column.text(peer.figures)
                        found.append(Loss(part.name, ours.case, column.heading, peer.way, times, *texts))
    return found


def _contests(rows: Sequence[Row]) -> Iterable[tuple[Row, list[Row]]]:
    """Each case's first row of ours and all rows of the others; a wrong one is none."""
    for case in dict.fromkeys(row.case for row in rows):
        of_case = [row for row in rows if row.case == case and not row.wrong]
        ours = next((row for row in of_case if row.is_ours), None)
        if ours is not None:
            yield ours, [row for row in of_case if not row.is_ours]


def losses_text(parts: Mapping[str, Part]) -> str:
    """The losses by part and measure, each with why and what it would take (`reasons.toml`).

    Raises KeyError for a loss that nobody has explained.
    """
    reasons = tomllib.loads(REASONS.read_text())
    found, lines = losses(parts), []
    for part in parts:
        of_part = [loss for loss in found if loss.part == part]
        for measure in dict.fromkeys(loss.measure for loss in of_part):
            lost = [loss for loss in of_part if loss.measure == measure]
            key = next(c.key for c in COLUMNS[part] if c.heading == measure)
            if key not in reasons.get(part, {}):
                raise KeyError(f"reasons.toml does not say why we lose at {part}, {key}: to {lost[0].way}")
            worst: dict[str, Loss] = {}
            for loss in lost:
                if loss.way not in worst or loss.times > worst[loss.way].times:
                    worst[loss.way] = loss
            peers = "; ".join(
                f"{loss.way} {loss.theirs} against {loss.ours} ({loss.times:,.1f} times, {loss.case})"
                for loss in sorted(worst.values(), key=lambda loss: -loss.times)
            )
            lines.append(f"* **{part}, {measure}**: {peers}. {reasons[part][key].strip()}")
    return "\n".join(lines) or "Nowhere in these tables."


def render(parts: Mapping[str, Part], docs: Path) -> Path:
    """Write `benchmarks.md` and the figures, from the template and the results; returns the file."""
    figures = docs / "benchmarks"
    figures.mkdir(parents=True, exist_ok=True)
    for part in parts.values():
        if part.name in FIGURES:
            _draw(partial(FIGURES[part.name], part=part), figures / f"{part.name}.png")
    if memory(parts):
        _draw(lambda canvas: _memory(canvas, memory(parts)), figures / "memory.png")
    text = _PLACE.sub(lambda found: _filled(found[1], found[2], parts), TEMPLATE.read_text())
    path = docs / "benchmarks.md"
    path.write_text(text)
    return path


def _filled(what: str, name: str | None, parts: Mapping[str, Part]) -> str:
    if what == "table":
        return table(parts[str(name)]) if name in parts else "Not measured."
    if what == "figure":
        return f"![{name}](benchmarks/{name}.png)" if name in parts and name in FIGURES else ""
    if what == "memory":
        return memory_table(parts) + "\n\n![memory](benchmarks/memory.png)" if memory(parts) else "Not measured."
    if what == "summary":
        return summary(parts)
    if what == "losses":
        return losses_text(parts)
    if what == "command":
        return next(iter(parts.values())).command if parts else "make bench"
    if what == "machine":
        return _measured(parts)
    raise KeyError(f"{TEMPLATE.name}: {{{{ {what} }}}} is not known")


def _measured(parts: Mapping[str, Part]) -> str:
    """Where, when and with what: of all parts, or of those measured on each machine by themselves."""
    machines: dict[str, list[Part]] = {}
    versions: dict[str, dict[str, None]] = {}
    for part in parts.values():
        machines.setdefault(part.machine, []).append(part)
        for package, number in part.versions.items():
            versions.setdefault(package, {})[number] = None
    lines = []
    for machine, measured in machines.items():
        these = f" ({', '.join(part.name for part in measured)})" if len(machines) > 1 else ""
        lines.append(f"Machine{these}: {machine}. Broker, database and every way share it.")
        begun = sorted({part.started_at for part in measured})
        when = begun[0] if len(begun) == 1 else f"{begun[0]} to {begun[-1]}"
        minutes = sum(part.seconds for part in measured) / 60
        loads = ", ".join(f"{part.name} {part.load:.1f}" for part in measured)
        lines.append(f"Measured: {when}, {minutes:.0f} minutes in all; load before each part: {loads}.")
    lines.append("Versions: " + ", ".join(f"{package} {' and '.join(v)}" for package, v in versions.items()) + ".")
    return "\n\n".join(lines)


def _draw(fill: Callable[[Canvas], None], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9, 4.2), dpi=110, layout="constrained")
    fill(figure)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _colour(way: str) -> str:
    return "#c0392b" if way.startswith(OURS) else "#7f8c8d"


def _bars(axes: Axes, rows: Sequence[Row], key: str, label: str, log: bool = False) -> None:
    shown = [row for row in rows if row.figures.get(key) is not None][::-1]
    values = [_float(row, key) for row in shown]
    bars = axes.barh([row.way for row in shown], values, color=[_colour(row.way) for row in shown])
    axes.bar_label(
        bars, [f"{value:,.0f}" if value >= 10 else f"{value:,.2g}" for value in values], padding=3, fontsize=8
    )
    axes.set_xlabel(label)
    axes.margins(x=0.15)
    if log:
        axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _catch_up(figure: Canvas, part: Part) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, part.rows, "seconds", "seconds, start included")
    _bars(right, part.rows, "peak_mb", "peak memory, MB")
    figure.suptitle(f"Catch-up of {part.rows[0].case}", fontsize=11)


def _lines_by(axes: Axes, rows: Sequence[Row], key: str, x: Callable[[Row], float], label: str) -> None:
    for way in dict.fromkeys(row.way for row in rows):
        points = [(x(row), row.figures[key]) for row in rows if row.way == way and row.figures.get(key) is not None]
        if points:
            ours = way.startswith(OURS)
            width, order = (2.5, 3) if ours else (1.2, 2)
            axes.plot(*zip(*points, strict=True), marker="o", label=way, linewidth=width, zorder=order)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _float(row: Row, key: str) -> float:
    return float(row.figures[key] or 0)


def _number(row: Row) -> float:
    return float(re.sub(r"\D", "", row.case.split()[0]))


def _freshness(figure: Canvas, part: Part) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in ((left, "p50_ms", "p50, ms"), (right, "p99_ms", "p99, ms")):
        _lines_by(axes, part.rows, key, _number, label)
        axes.set_xlabel("invoices/s")
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=6)
    figure.suptitle("From Kafka's timestamp to visible in the mart (a way that falls behind has no point)", fontsize=11)


def _scores(figure: Canvas, part: Part) -> None:
    axes = figure.subplots()
    _lines_by(axes, part.rows, "ms", _number, "ms a batch")
    axes.set_xlabel("customers")
    axes.legend(fontsize=8)
    figure.suptitle("All scores current after a batch of 1,000 changed customers", fontsize=11)


def _rules(figure: Canvas, part: Part) -> None:
    cases = list(dict.fromkeys(row.case for row in part.rows))
    figure.set_size_inches(9, 1.4 + 1.9 * len(cases))
    for axes, case in zip(figure.subplots(len(cases), 1, squeeze=False)[:, 0], cases, strict=True):
        _bars(axes, [row for row in part.rows if row.case == case], "seconds", "seconds, baskets → rules", log=True)
        axes.set_title(case, fontsize=9)


def _nightly(figure: Canvas, part: Part) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, part.rows, "seconds", "seconds, start included")
    _bars(right, part.rows, "peak_mb", "peak memory, MB")
    figure.suptitle(f"The nightly job: {part.rows[0].case}", fontsize=11)


def _memory(figure: Canvas, held: Mapping[str, Mapping[str, int]]) -> None:
    heights = [len(ways) for ways in held.values()]
    figure.set_size_inches(9, 1.0 + 0.45 * sum(heights))
    grid = figure.subplots(len(held), 1, squeeze=False, gridspec_kw={"height_ratios": heights}, sharex=True)
    for axes, (part, ways) in zip(grid[:, 0], held.items(), strict=True):
        _bars(axes, [Row("", way, {"peak_mb": megabytes}) for way, megabytes in ways.items()], "peak_mb", "")
        axes.set_title(part, fontsize=9)
    grid[-1, 0].set_xlabel("peak memory, MB")


def _growth(x_key: str, x_label: str, y: Mapping[str, str]) -> Callable:
    def draw_growth(figure: Canvas, part: Part) -> None:
        axes = figure.subplots()
        rows = [row for row in part.rows if row.figures.get(x_key) is not None]
        for key, label in y.items():
            points = [(_float(row, x_key), _float(row, key)) for row in rows if row.figures.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(x_label)
        axes.set_ylabel("seconds")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)

    return draw_growth


FIGURES: dict[str, Callable] = {
    "catch-up": _catch_up,
    "freshness": _freshness,
    "scores": _scores,
    "rules": _rules,
    "nightly": _nightly,
    "growth-lines": _growth("lines", "lines on the topic", {"seconds": "catch-up, start included"}),
    "growth-rules": _growth("itemsets", "itemsets", {"mine_seconds": "mining", "measure_seconds": "rule step"}),
}
