"""The way every command of the project is run: errors are told in words, and whatever is told shows no secret."""

from __future__ import annotations

import io
import sys
from typing import NoReturn, TextIO, cast

import typer

from conf.masking import MaskedStream
from conf.settings import SettingsError


def run_command(app: typer.Typer, name: str, told: tuple[type[Exception], ...] = ()) -> NoReturn:
    """Run `python -m NAME` and exit.

    All that goes to standard error is masked: messages, logs of ours and of libraries, the traceback of what nobody
    foresaw. A wrong setting, and what is in `told`, is a message and exit code 1 wherever it is raised.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal of another encoding than UTF-8 is told all the same
    sys.stderr = cast(TextIO, MaskedStream(sys.stderr))
    known: tuple[type[Exception], ...] = (SettingsError, *told)
    try:
        app(prog_name=f"python -m {name}")
    except known as error:
        sys.exit(f"error: {error}")
    sys.exit(0)
