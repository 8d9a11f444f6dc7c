"""Where a command speaks, and the settings with which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from conf.settings import Settings

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def say(line: str) -> None:
    """A line as it is, however long."""
    console.print(line, markup=False, soft_wrap=True)


def configured() -> Settings:
    """The settings; what is logged from now on, such as a wait for a lock, goes to standard error as they say."""
    from conf.json_lines import as_json_lines
    from conf.logs import configure_logs
    from conf.settings import log_format, settings

    if log_format() == "json":  # a setting that is wrong is told so, too
        as_json_lines()
    current = settings()
    configure_logs(current)
    return current
