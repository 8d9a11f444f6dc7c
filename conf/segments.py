"""Customer segments: ordered conditions on the scores r, f, m, read from `segments.toml`."""

import operator
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

_FILE = Path(__file__).with_name("segments.toml")
_CONDITION = re.compile(r"([rfm]) (>=|<=|=) ([1-5])")
_COMPARE = {">=": operator.ge, "<=": operator.le, "=": operator.eq}
SCORES = range(1, 6)


@dataclass(frozen=True)
class Segment:
    """One segment: its name and the conditions that must all hold, e.g. ("r >= 4", "f >= 4")."""

    name: str
    when: tuple[str, ...]

    def matches(self, r: int, f: int, m: int) -> bool:
        scores = {"r": r, "f": f, "m": m}
        return all(
            _COMPARE[sign](scores[score], int(bound))
            for score, sign, bound in (_parsed(condition, self.name) for condition in self.when)
        )


def _parsed(condition: str, segment: str) -> tuple[str, str, str]:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(
            f"{_FILE.name}: segment {segment!r}: condition {condition!r} is not like 'r >= 4' "
            "(r, f or m; >=, <= or =; 1-5)"
        )
    return match[1], match[2], match[3]


@cache
def segments() -> tuple[Segment, ...]:
    """The segments in order, first match wins. Raises ValueError for a condition that cannot be read."""
    listed = tomllib.loads(_FILE.read_text(encoding="utf-8"))["segment"]
    return tuple(Segment(entry["name"], tuple(entry["when"])) for entry in listed)


def segment_scores() -> Iterator[tuple[int, int, int, str]]:
    """One row (r, f, m, segment) for each of the 125 combinations of scores.

    Raises ValueError if no segment matches one: the last segment should have no condition.
    """
    for r, f, m in product(SCORES, SCORES, SCORES):
        name = next((segment.name for segment in segments() if segment.matches(r, f, m)), None)
        if name is None:
            raise ValueError(f"{_FILE.name}: no segment matches r={r} f={f} m={m}; end with one whose `when` is []")
        yield r, f, m, name
