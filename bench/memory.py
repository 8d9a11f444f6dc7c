"""The peak memory of processes while something ran: sampled, summed over a process and its descendants."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

import psutil

_EVERY_SECONDS = 0.2


class PeakMemory:
    """While the block runs: `bytes`, the largest sum of the resident memory of these processes and what they started,
    and `processor_seconds` that they used so far.

    Pages that several of them share are counted in each, as `ps` does.
    """

    def __init__(self, pids: Iterable[int], every: float = _EVERY_SECONDS, descendants: bool = True) -> None:
        self.bytes = 0
        self.processor_seconds = 0.0
        self._roots = [psutil.Process(pid) for pid in pids]
        self._every = every
        self._descendants = descendants
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, daemon=True)

    @property
    def megabytes(self) -> int:
        return round(self.bytes / 2**20)

    def __enter__(self) -> PeakMemory:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample_until_done(self) -> None:
        while not self._done.wait(self._every):
            self.sample()

    def sample(self) -> None:
        held, used = 0, 0.0
        for root in self._roots:
            with suppress(psutil.NoSuchProcess):
                for process in (root, *(root.children(recursive=True) if self._descendants else ())):
                    with suppress(psutil.NoSuchProcess), process.oneshot():
                        held += process.memory_info().rss
                        times = process.cpu_times()
                        used += times.user + times.system + times.children_user + times.children_system
        self.bytes = max(self.bytes, held)
        self.processor_seconds = max(self.processor_seconds, used)
