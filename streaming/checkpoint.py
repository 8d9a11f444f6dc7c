"""Checkpoints: a folder for what Spark notes of a query. The mart and the lake hold the next offsets, so a start needs
nothing of an earlier one: each has a folder of its own, and it goes with the query."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.scratch import scratch

_NAMES = ("apply", "land", "epoch")  # the last: of versions before 0.2


@contextmanager
def checkpoint(parent: str, query: str) -> Iterator[str]:
    """A folder in `parent` (a folder or URL) that no earlier start used, gone at the block's end. At a URL it stays:
    Spark alone can reach that. Raises StreamingError if it cannot be made."""
    if "://" in parent:
        yield f"{parent}/{query}-{uuid.uuid4().hex}"
        return
    with scratch(Path(parent), query, "CHECKPOINT_DIR", _NAMES) as folder:
        yield str(folder)
