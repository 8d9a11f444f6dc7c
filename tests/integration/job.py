"""The streaming job in a process of its own, to be stopped, killed and started again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stack.command import Command


def running(environment: Mapping[str, str], log: Path, *options: str, verb: str = "run") -> Command:
    """A running `retail-mart run …` (or another verb), killed at the block's end, however the test goes."""
    settings = {**environment, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    return Command("cli", verb, *options, log=log, environment=settings)
