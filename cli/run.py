"""The way every command is run: errors are told in words, and whatever is told shows no secret."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

import typer

_READER_HAS_GONE = 128 + 13  # as of a process that SIGPIPE ended


class OutputError(Exception):
    """Standard output takes no more."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"standard output cannot be written: {reason.strerror}")
        self.reader_has_gone = reason.errno == errno.EPIPE


class Output:
    """Standard output, whose failure is told from that of any other file; all else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def buffer(self) -> Output:
        return Output(self._stream.buffer)

    def write(self, text: Any) -> Any:
        with _output():
            return self._stream.write(text)

    def flush(self) -> None:
        with _output():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error) from None


def run_command(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line and exit; exit codes: cli.errors.

    All that goes to standard error is masked: messages, logs of ours and of libraries, the traceback of what nobody
    foresaw.
    """
    from conf.masking import MaskedStream

    sys.stdout = cast(TextIO, Output(_told_all_the_same(sys.stdout)))
    sys.stderr = cast(TextIO, MaskedStream(_told_all_the_same(sys.stderr)))
    try:
        code = _ended(app, name)
        sys.stdout.flush()
    except OutputError as error:
        _let_go_of_what_is_left()
        if error.reader_has_gone:
            sys.exit(_READER_HAS_GONE)
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    sys.exit(code)


def _ended(app: typer.Typer, name: str) -> int:
    try:
        _refuse_what_is_no_text(sys.argv[1:])
        app(prog_name=name)
    except SystemExit as ended:
        return int(ended.code or 0)
    except OutputError:
        raise
    except Exception as error:
        from cli.errors import tell

        return tell(error)
    return 0


def _told_all_the_same(stream: TextIO | None) -> TextIO:
    """A stream that a terminal of another encoding than UTF-8, or one that was closed, keeps from nothing."""
    if stream is None:
        return open(os.devnull, "w")  # noqa: PTH123
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _refuse_what_is_no_text(arguments: list[str]) -> None:
    """Raises UsageError for an argument whose bytes are no UTF-8: PostgreSQL, Kafka and JSON take none."""
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            from conf.errors import UsageError

            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise UsageError(f"argument {number} is not UTF-8: {shown}; give it in UTF-8") from None


def _let_go_of_what_is_left() -> None:
    """What standard output still holds, Python would try to write once more at its end, and complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
