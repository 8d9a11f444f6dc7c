"""Kill points: named moments of the job's work at which it is killed with kill -9, or suspended, from inside.

The job reports its phases to any listener (conf/phases.py); here the listener strikes.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from conf.phases import Phases

Strike = Callable[[], None]

# name → (phase, whether the moment is its end). The first word says which query is hit.
APPLY = {
    "during start": ("take over", True),
    "after poll": ("next_offsets", False),
    "after COPY": ("copy", True),
    "after INSERT": ("insert", True),
    "after scores": ("score", True),
    "before commit": ("commit", False),
    "after commit": ("commit", True),
}
LAND = {
    "before the lake's commit": ("write", False),
    "after the lake's commit": ("write", True),
}
POINTS = {**APPLY, **LAND}
CHECKPOINT_WRITE = "in checkpoint write"
"""Of a whole job only: while Spark writes a file of a query's checkpoint."""
ANY_MOMENT = "any moment"


def kill_me() -> None:
    """kill -9 this process and everything it started, as they are one process group."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def stop_me() -> None:
    """SIGSTOP this process alone, until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def striking(point: str, times: int, strike: Strike = kill_me) -> Callable[[], Phases]:
    """Phases that strike when this process passes a point for the `times`-th time; at `any moment`, after up to `times`
    seconds."""
    if point == ANY_MOMENT:
        delay = random.SystemRandom().uniform(0, times)
        timer = threading.Timer(delay, strike)
        timer.daemon = True  # a process that ends before is not held up
        timer.start()
        return Phases
    phase, at_its_end = POINTS[point]
    passed = 0

    def pass_by(name: str) -> None:
        nonlocal passed
        passed += name == phase
        if name == phase and passed == times:
            strike()

    return partial(Phases, **{"ended" if at_its_end else "begins": pass_by})


def strike_in_checkpoint_write(folder: Path, times: int, strike: Strike = kill_me) -> None:
    """Strike when the `times`-th half-written file is seen in a query's checkpoint folder."""

    def watch() -> None:
        seen: set[str] = set()
        while len(seen) < times:
            for path in folder.glob("*/*/*/.*.tmp*"):
                seen.add(str(path))
            time.sleep(0.0005)
        strike()

    threading.Thread(target=watch, daemon=True).start()
