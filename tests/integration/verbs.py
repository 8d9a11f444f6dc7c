"""Every command of the project, found by itself, and run in this process as `python -m` runs it."""

from __future__ import annotations

import io
import runpy
import sys
import tomllib
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from unittest.mock import patch

import click
import structlog
import typer.main

from conf import settings as settings_module
from tests.conftest import ROOT


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
    """Each one as `package verb [verb]`, of every package that can be run and has commands."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in packages:
        if (ROOT / package / "__main__.py").exists():
            main = import_module(f"{package}.__main__")
            if hasattr(main, "app"):
                yield from _below(package, typer.main.get_command(main.app))


def _below(path: str, command: click.Command) -> Iterator[str]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path
        return
    for name, one in commands.items():
        yield from _below(f"{path} {name}", one)


def run(verb: str, *arguments: str) -> Ended:
    """What `python -m VERB ARGUMENTS` does, to the exit code and the traceback that the interpreter would print."""
    package, *names = verb.split()
    settings_module.settings.cache_clear()
    try:
        with _streams([package, *names, *arguments]) as (out, err):
            code = _interpreted(package)
        return Ended(code, _text(out), _text(err))
    finally:
        settings_module.settings.cache_clear()
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
