"""Phases: the timed steps of one piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str], object]


def _unheard(_name: str) -> None:
    pass


class Phases:
    """A `with phases(name)` block is the phase of that name. `begins` is called before it, and `ended` after it unless
    it failed; `seconds` has the time of each."""

    def __init__(self, begins: Listener = _unheard, ended: Listener = _unheard) -> None:
        self._begins, self._ended = begins, ended
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._begins(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self._ended(name)

    def milliseconds(self) -> dict[str, float]:
        """As the log has them."""
        return {name: round(seconds * 1000, 1) for name, seconds in self.seconds.items()}
