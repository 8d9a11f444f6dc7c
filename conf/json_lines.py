"""Standard error as JSON, one object per line, whoever writes to it: our log, a library, Python itself, Java."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO, cast


class JsonLines:
    """A text stream that turns every line that is not a JSON object into the `event` of one; otherwise it is the stream
    itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()  # a line may come in pieces, and threads write at the same time

    def write(self, text: str) -> int:
        *lines, begun = (getattr(self._begun, "line", "") + text).split("\n")
        self._begun.line = begun
        for line in filter(str.strip, lines):
            self._stream.write(f"{line if _is_object(line) else event(line.rstrip(), 'info')}\n")
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def event(text: str, level: str, **fields: object) -> str:
    """A log line with the fields that structlog adds to its own."""
    return json.dumps(
        {"event": text, "level": level, "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"} | fields
    )


def as_json_lines() -> None:
    """From now on, standard error holds JSON lines."""
    if not is_json_lines():
        sys.stderr = cast(TextIO, JsonLines(sys.stderr))


def is_json_lines() -> bool:
    """Whether standard error holds JSON lines."""
    return isinstance(sys.stderr, JsonLines)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
