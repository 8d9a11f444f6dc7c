"""Kill points: named moments of the job's work at which it is killed by kill -9, or held, from inside.

The job's code has no hooks for this: its functions are wrapped in the process that is to die.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streaming.apply as apply
import streaming.apply_job as apply_job
import streaming.land as land
import streaming.land_job as land_job

Strike = Callable[[], None]

# name → (module, function, whether the moment is after it returned). The first word says which query is hit.
APPLY = {
    "during start": (apply_job, "take_over", True),
    "after poll": (apply_job, "apply_batch", False),
    "after COPY": (apply, "_copy", True),
    "after INSERT": (apply, "lock_scores", False),
    "after scores": (apply, "score", True),
    "before commit": (apply, "advance", True),
    "after commit": (apply_job, "apply_batch", True),
}
LAND = {
    "before the lake's commit": (land, "append", False),
    "after the lake's commit": (land_job, "land_batch", True),
}
POINTS = {**APPLY, **LAND}
CHECKPOINT_WRITE = "in checkpoint write"
"""Of a whole job only: while Spark writes a file of a query's checkpoint."""
ANY_MOMENT = "any moment"


def kill_me() -> None:
    """kill -9 of this process and all it started, as they are one process group."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def stop_me() -> None:
    """SIGSTOP of this process alone, until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def install(point: str, times: int, strike: Strike = kill_me) -> None:
    """Strike at the `times`-th passing of a point of this process; at `any moment`, after up to `times` seconds."""
    if point == ANY_MOMENT:
        delay = random.SystemRandom().uniform(0, times)
        timer = threading.Timer(delay, strike)
        timer.daemon = True  # a process that ends before is not held up
        timer.start()
        return
    module, name, after = POINTS[point]
    passed = 0

    def pass_by() -> None:
        nonlocal passed
        passed += 1
        if passed == times:
            strike()

    wrap(module, name, (lambda _: pass_by()) if after else None, None if after else pass_by)


def install_in_checkpoint_write(folder: Path, times: int, strike: Strike = kill_me) -> None:
    """Strike when the `times`-th half-written file is seen in a query's checkpoint folder."""

    def watch() -> None:
        seen: set[str] = set()
        while len(seen) < times:
            for path in folder.glob("*/*/*/.*.tmp*"):
                seen.add(str(path))
            time.sleep(0.0005)
        strike()

    threading.Thread(target=watch, daemon=True).start()


def wrap(module: Any, name: str, after: Callable[[Any], None] | None, before: Callable[[], None] | None) -> None:
    """Have a module's function call `before()` first and `after(result)` last."""
    original = getattr(module, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            before()
        result = original(*arguments, **named)
        if after is not None:
            after(result)
        return result

    setattr(module, name, wrapped)
