"""Files: merge the lake's small ones, delete those that its newest version no longer has, and delete old days."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from conf.errors import StreamingError
from conf.lake import LAKE_PARTITION
from lake.table import existing_lake, reaching

_KEPT_SINCE, _EPOCH = "kept since", date(1970, 1, 1)


@dataclass(frozen=True)
class Compacted:
    """What was done: the newest version's files and bytes before and after, the files that were `merged` into fewer
    ones, and those that were `deleted` from the storage."""

    files_before: int
    bytes_before: int
    files_after: int
    bytes_after: int
    merged: int
    deleted: int
    version: int
    seconds: float


def compact(path: str, retention_hours: int) -> Compacted:
    """Merge small files within each business date, then delete the files that left the newest version more than
    `retention_hours` ago, and files of that age that never belonged to a version (of a job killed while writing).

    Safe while landing runs, because its appends do not conflict with a merge, as long as no commit and no reader of an
    older version takes `retention_hours`. Raises StreamingError if there is no lake or another compact is running,
    UnavailableError if the storage is unavailable.
    """
    start = time.perf_counter()
    table = existing_lake(path)
    files_before, bytes_before = size_of(table)
    with reaching(path):
        try:
            metrics = table.optimize.compact()
            table.update_incremental()
            deleted = delete_old_files(table, retention_hours)
        except CommitFailedError as error:
            raise StreamingError(
                f"another job changed files of the lake at {path} meanwhile (a second compact?): {error}. Nothing is "
                "lost; run it again"
            ) from None
        table.update_incremental()
    files_after, bytes_after = size_of(table)
    return Compacted(
        files_before,
        bytes_before,
        files_after,
        bytes_after,
        merged=metrics["numFilesRemoved"],
        deleted=len(deleted),
        version=table.version(),
        seconds=time.perf_counter() - start,
    )


def delete_old_files(table: DeltaTable, retention_hours: int) -> list[str]:
    """Delete the files that left the newest version that many hours ago, and files of that age that never belonged to a
    version."""
    # The setting is the policy, not the table's default of a week.
    return table.vacuum(retention_hours, dry_run=False, full=True, enforce_retention_duration=False)


def size_of(table: DeltaTable) -> tuple[int, int]:
    """Files and bytes of the newest version."""
    sizes = pa.table(table.get_add_actions())["size_bytes"]
    return len(sizes), pc.sum(sizes).as_py() or 0


def kept_since(table: DeltaTable) -> date | None:
    """The first business date that the lake still has completely; None if nothing was pruned."""
    days = table.transaction_version(_KEPT_SINCE)
    return None if days is None else _EPOCH + timedelta(days=days)


def delete_before(table: DeltaTable, since: date) -> int:
    """Delete the rows of earlier business dates and record the date, in one commit; returns how many rows there
    were."""
    days = (max(since, kept_since(table) or since) - _EPOCH).days
    noted = CommitProperties(app_transactions=[Transaction(_KEPT_SINCE, days)])
    done = table.delete(f"{LAKE_PARTITION} < '{since}'", commit_properties=noted)
    return int(done["num_deleted_rows"])
