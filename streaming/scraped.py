"""What a scrape asks a server: by one thread at a time, and not again for some seconds after a failure."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

import structlog

log = structlog.get_logger()
_RETRY_SECONDS = 10
_Answer = TypeVar("_Answer")


class Scraped(ABC):
    """A server that scrapes ask. Asking never raises: while the server is unavailable the answer is unknown (None), and
    it is not asked again for some seconds, so that a scrape does not wait for it each time."""

    failures: ClassVar[tuple[type[Exception], ...]]

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._silent_until = 0.0

    def asked(self, ask: Callable[[], _Answer]) -> _Answer | None:
        """The answer; None while it is unknown."""
        with self._asking:
            if time.monotonic() < self._silent_until:
                return None
            try:
                return ask()
            except self.failures as error:
                reason = " ".join(str(error).split())
                log.debug("no answer", of=type(self).__name__, reason=f"{type(error).__name__}: {reason}")
                self._silent_until = time.monotonic() + _RETRY_SECONDS
                self._disconnect()
                return None

    def close(self) -> None:
        """Ask no more."""
        with self._asking:
            self._silent_until = float("inf")
            self._disconnect()

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, if there is one; the next question opens a new one."""
