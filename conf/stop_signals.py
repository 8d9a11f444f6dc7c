"""Stop signals: SIGTERM and SIGINT end a command between two pieces of its work, not within one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

log = structlog.get_logger()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a command ends where nothing is half done."""
    stopping = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()

    with handled_by(stop, signal.SIGTERM, signal.SIGINT):
        yield stopping


@contextmanager
def cleared_away() -> Iterator[None]:
    """SIGTERM ends the block by an exception, as Ctrl-C does, so that what it has begun is cleared away."""

    def stop(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    with handled_by(stop, signal.SIGTERM):
        yield


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """For the block, these signals are the handler's."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
