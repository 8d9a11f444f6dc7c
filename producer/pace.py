"""When the next invoice is due: at a rate, at a multiple of the shop's own time, or at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*(s|m|h))?")
_SPEED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*x?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}


def parse_rate(text: str) -> float:
    """Invoices per second from `1000/s`, `300/m`, `50/h` or a plain number. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    if not match or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a valid rate: write 1000/s, 300/m or 50/h")
    return float(match[1]) / _SECONDS[match[2]]


def parse_speed(text: str) -> float:
    """A factor from `3600x` or a plain number. Raises ValueError."""
    match = _SPEED.fullmatch(text.strip())
    if not match or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a valid speed: write 3600x for an hour of the shop in a second")
    return float(match[1])


class Pace:
    """Says how long to wait before each invoice.

    With a rate, invoice n is due n/rate seconds after the first, whatever happened between: a delay is caught
    up. With a speed, an invoice is due when the shop's clock, running that many times faster, reaches its date;
    one dated before its predecessor is due at once. With neither, everything is due at once.
    """

    def __init__(
        self,
        rate: float | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._speed, self._clock = rate, speed, clock
        self._start: float | None = None
        self._first_date: datetime | None = None
        self._count = 0

    def wait_for(self, date: datetime) -> float:
        """Seconds until the next invoice, which bears this date, is due; 0 or less if it is due now."""
        if self._rate is None and self._speed is None:
            return 0.0
        if self._start is None or self._first_date is None:
            self._start, self._first_date = self._clock(), date
        if self._rate is not None:
            due = self._count / self._rate
        else:
            due = (date - self._first_date).total_seconds() / (self._speed or 1)
        self._count += 1
        return self._start + due - self._clock()
