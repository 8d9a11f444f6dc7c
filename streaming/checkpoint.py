"""Checkpoints: a folder for what Spark notes of a query. The mart and the lake hold the next offsets, so a start needs
nothing of an earlier one: each has a folder of its own, and it goes with the query."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from conf.errors import StreamingError


@contextmanager
def checkpoint(parent: str, query: str) -> Iterator[str]:
    """A folder in `parent` (a folder or URL) that no earlier start used, gone at the block's end. At a URL it stays:
    Spark alone can reach that. Raises StreamingError if it cannot be made."""
    if "://" in parent:
        yield f"{parent}/{query}-{uuid.uuid4().hex}"
        return
    with ExitStack() as end:
        try:
            Path(parent).mkdir(parents=True, exist_ok=True)
            with _locked(parent):
                _clear_away_killed(parent)
                folder = end.enter_context(TemporaryDirectory(None, f"{query}-", parent, ignore_cleanup_errors=True))
                end.enter_context(_locked(folder))
        except OSError as error:
            raise StreamingError(
                f"no checkpoint folder can be made in {parent}: {error.strerror or error}. Set CHECKPOINT_DIR to one "
                "that this user may write to"
            ) from error
        yield folder


def _clear_away_killed(parent: str) -> None:
    """Folders that nobody holds: of jobs that were killed, and of versions that left theirs behind."""
    for pattern in ("apply-*", "land-*", "epoch-*"):
        for earlier in Path(parent).glob(pattern):
            try:
                with _locked(str(earlier), fcntl.LOCK_NB):
                    shutil.rmtree(earlier, ignore_errors=True)
            except BlockingIOError:  # a job is at work in it
                continue


@contextmanager
def _locked(folder: str, more: int = 0) -> Iterator[None]:
    """Held until the block's end, or the process's."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | more)
        yield
    finally:
        os.close(held)
