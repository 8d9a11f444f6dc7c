"""Every command of the project, found by itself, and run in this process as the interpreter runs it."""

from __future__ import annotations

import io
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch

import structlog
import typer.main

from conf import settings as settings_module

_TOOLS = ("bench", "torture")  # of developers, with a door of their own


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def verbs() -> Iterator[str]:
    """Each one of `retail-mart` as `verb [verb]`, and each of the developers' tools as `tool [verb]`."""
    yield from _below("", typer.main.get_command(import_module("cli.main").app))
    for tool in _TOOLS:
        yield from _below(tool, typer.main.get_command(import_module(f"{tool}.__main__").app))


def _below(path: str, command: Any) -> Iterator[str]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path
        return
    for name, one in commands.items():
        yield from _below(f"{path} {name}".strip(), one)


def run(verb: str, *arguments: str) -> Ended:
    """What `retail-mart VERB ARGUMENTS` does, to the exit code and the traceback that the interpreter would print."""
    first, *others = verb.split()
    package, names = (first, others) if first in _TOOLS else ("cli", [first, *others])
    forget = getattr(settings_module.settings, "cache_clear", lambda: None)  # a test may have its own in this place
    forget()
    for module in [name for name in sys.modules if name.split(".")[0] == "cli"]:
        del sys.modules[module]  # its consoles are as wide as the environment said when they were made
    try:
        with _streams([package, *names, *arguments]) as (out, err):
            code = _interpreted(package)
        return Ended(code, _text(out), _text(err))
    finally:
        forget()
        structlog.reset_defaults()


def _interpreted(package: str) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of runpy: that verbs() has imported the module too
            runpy.run_module(package, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return int(ended.code or 0)
    except Exception:
        sys.stderr.write(traceback.format_exc())
        return 1
    return 0


@contextmanager
def _streams(arguments: list[str]) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with patch("sys.argv", arguments), patch("sys.stdout", out), patch("sys.stderr", err):
        yield out, err


def _text(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
