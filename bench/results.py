"""Results as rows, stored as JSON so that tables and plots can be made again without a run."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

OURS = "ours"
"""How the names of our own ways begin."""

Figure = float | int | str | None
_PACKAGES = ("pyspark", "deltalake", "numpy", "pandas", "duckdb", "psycopg2-binary", "kafka-python")


@dataclass(frozen=True)
class Row:
    """One way of doing one piece of work.

    `case` is the work (a size, a rate, a support), `way` who did it, `figures` what was measured (None: not measured).
    `note` says what a reader must know of this row; `wrong`, that the result was not the expected one: then there are
    no figures.
    """

    case: str
    way: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    note: str | None = None
    wrong: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.way.startswith(OURS)

    def __str__(self) -> str:
        return f"{self.case}, {self.way}: {self.wrong or self.note or dict(self.figures)}"


@dataclass(frozen=True)
class Part:
    """The results of one part of the benchmark, with where and when they were measured."""

    name: str
    rows: list[Row]
    command: str
    started_at: str
    seconds: float
    machine: str
    load: float
    versions: Mapping[str, str]


def save(folder: Path, part: Part) -> None:
    """Write a part as `<name>.json`, in place of the one of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part.name}.json").write_text(json.dumps(asdict(part), indent=1, ensure_ascii=False) + "\n")


def load(folder: Path) -> dict[str, Part]:
    """The parts that are there, by name."""
    parts = (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))
    return {part["name"]: Part(**part | {"rows": [Row(**row) for row in part["rows"]]}) for part in parts}


def machine() -> str:
    """The machine in one line: cores, processor, memory, system."""
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores ({_processor()}), {gigabytes:.0f} GB, {platform.system()} {platform.release()}"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """The versions of Python and of the installed packages of a measurement."""
    found = {"Python": platform.python_version()}
    for package in (*_PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
