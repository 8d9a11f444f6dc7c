"""Scratch space: a folder per process for what nobody else needs, removed when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from conf.errors import StreamingError

_NAMES = ("spark", "verify", "repair", "rules")


@contextmanager
def scratch(parent: Path, name: str, setting: str = "SCRATCH_DIR", names: Sequence[str] = _NAMES) -> Iterator[Path]:
    """A folder in `parent` that no other process has, removed at the end of the block.

    First removes what killed processes left there under one of `names`. Raises StreamingError if it cannot be created.
    """
    with ExitStack() as end:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with _locked(parent):
                _clear_away_killed(parent, names)
                folder = end.enter_context(TemporaryDirectory(None, f"{name}-", parent, ignore_cleanup_errors=True))
                end.enter_context(_locked(Path(folder)))
        except OSError as error:
            raise StreamingError(
                f"no folder can be made in {parent}: {error.strerror or error}. Set {setting} to one that this user "
                "may write to"
            ) from error
        yield Path(folder)


def _clear_away_killed(parent: Path, names: Sequence[str]) -> None:
    """Folders that nobody holds: left by killed processes, or by older versions."""
    for earlier in (folder for name in names for folder in parent.glob(f"{name}-*")):
        try:
            with _locked(earlier, fcntl.LOCK_NB):
                shutil.rmtree(earlier, ignore_errors=True)
        except BlockingIOError:  # a process is at work in it
            continue


@contextmanager
def _locked(folder: Path, more: int = 0) -> Iterator[None]:
    """Held until the block's end, or the process's."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | more)
        yield
    finally:
        os.close(held)
