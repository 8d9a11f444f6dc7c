"""Stop signals: SIGTERM, SIGHUP and SIGINT end a command between two pieces of its work, not within one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog

log = structlog.get_logger()
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGHUP and SIGINT set, so that a command ends where nothing is half done."""
    stopping = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        with suppress(OSError):  # the terminal that sent SIGHUP is gone
            log.info("stopping", signal=signal.Signals(number).name)

    with handled_by(stop, *STOPS):
        yield stopping


@contextmanager
def cleared_away() -> Iterator[None]:
    """SIGTERM or SIGHUP ends the block with an exception, as Ctrl-C does, so that whatever it has begun is cleaned
    up."""
    # One that raises KeyboardInterrupt, by the wish of the command, does so already.
    ends = (n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.default_int_handler)
    with handled_by(_exit, *ends):
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """The same, and SIGINT too even if it is ignored, as in a script's background job: for commands that must stop
    servers."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    with cleared_away(), handled_by(_exit, *([signal.SIGINT] if ignored else [])):
        yield


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Within the block, these signals go to the handler, except that an ignored SIGHUP stays ignored: `nohup` relies on
    it."""
    heard = [n for n in numbers if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
