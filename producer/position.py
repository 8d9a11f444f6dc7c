"""How far a replay has come, in a small file, so that the next one can go on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conf.errors import UsageError


class PositionError(UsageError):
    """There is no position to go on from, or it does not fit the files; the message says which and what to do."""


@dataclass(frozen=True)
class Position:
    """The first `invoices` invoices of `file` in this round, and all files before it, are acknowledged.

    `shift_days` is by how much the first round's dates are moved: a replay that goes on the next morning moves
    them as far as it did before.
    """

    file: str
    invoices: int
    round: int = 0
    shift_days: int = 0


def position_file(folder: Path, topic: str, paths: Sequence[Path]) -> Path:
    """The file in the folder that keeps the position of replaying these paths to this topic."""
    key = "\n".join([topic, *(str(p.resolve()) for p in paths)])
    return folder / f"replay-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def save(file: Path, position: Position) -> None:
    """Write it whole or not at all, whatever happens meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(position)) + "\n")
    fresh.replace(file)


def load(file: Path) -> Position:
    """What save() wrote. Raises PositionError."""
    try:
        return Position(**json.loads(file.read_text()))
    except FileNotFoundError:
        raise PositionError(
            f"nothing to resume: no earlier replay of these paths left {file}; omit --resume to begin"
        ) from None
    except (ValueError, TypeError) as error:
        raise PositionError(
            f"{file} is not a replay's position ({error}): remove it and omit --resume to start over"
        ) from None
