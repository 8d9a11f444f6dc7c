"""Checkpoints: a folder for Spark's own notes about a query. The mart and the lake hold the next offsets, so a start
needs nothing from an earlier one: each gets its own folder, which is deleted with the query."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.scratch import scratch

_NAMES = ("apply", "land", "epoch")  # the last: of versions before 0.2


@contextmanager
def checkpoint(parent: str, query: str) -> Iterator[str]:
    """A folder in `parent` (a folder or URL) that no earlier start used, deleted at the end of the block. At a URL it
    stays, because only Spark can reach that. Raises StreamingError if it cannot be created."""
    if "://" in parent:
        yield f"{parent}/{query}-{uuid.uuid4().hex}"
        return
    with scratch(Path(parent), query, "CHECKPOINT_DIR", _NAMES) as folder:
        yield str(folder)
