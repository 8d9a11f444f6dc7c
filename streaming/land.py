"""Land: one micro-batch of parsed invoices into the lake, in one Delta commit, exactly once.

The lake's own log holds how far each Kafka partition is landed, as Delta's application transactions: one action
`txn(appId = landing <topic> <topic id> <partition>, version = next offset)` in the same commit as the rows. Two
commits that move one partition at once conflict, and the loser reads the positions again. Compaction, vacuum, Delta's
checkpoints and its log's expiry keep them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from conf.lake import LAKE_PARTITION, LAKE_SCHEMA
from conf.lake_storage import delta_options, failure
from lake.erasure_list import lake_list
from conf.errors import AwayError, StreamingError, TopicChangedError
from topic.offsets import due_records, next_offsets, spanned
from topic.offsets import Covered
from topic.describe import Topic

_TRIES = 10
# Delta's log keeps the least and greatest value of these in each file; a customer's id must not be among them.
_STATS_COLUMNS = ("invoice", "invoice_date", "topic", "partition", "offset", "kafka_timestamp")
_KEPT_SINCE, _EPOCH = "kept since", date(1970, 1, 1)
_FORGOTTEN = -1  # a position of a topic that is to be landed from its first record again
Result = TypeVar("Result")


@dataclass
class Landed:
    """What one batch did. Each due record is a landed row or rejected; `skipped` ones were in the lake before."""

    records: int = 0
    rows: int = 0
    rejected: int = 0
    skipped: int = 0
    files: int = 0
    version: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)


def land_batch(table: DeltaTable, topic: Topic, batch: pa.Table, covered: Covered | None = None) -> Landed:
    """Append a parsed batch's valid invoices to the lake and commit, together with the topic's new positions.

    `batch`: one row a record, streaming.parse's columns. `covered`: the offsets that it was read from, which the lake
    has passed then; by default those that its rows span. Records before the lake's positions are skipped. Raises
    GapError, and nothing is landed, if the batch starts after them; AwayError if the storage fails: then trying again
    skips what was committed, if it was.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            return _land_due(table, topic, batch, spanned(batch) if covered is None else covered)
        except CommitFailedError as conflict:  # another job or a rewind moved the positions meanwhile: look again
            if not tries_left:
                raise AwayError(f"the lake at {table.table_uri} took no commit: {_first_line(conflict)}") from conflict
        except (OSError, DeltaError) as error:
            raise _explained(error, table.table_uri) from None
    raise AssertionError("unreachable")


def _land_due(table: DeltaTable, topic: Topic, batch: pa.Table, covered: Covered) -> Landed:
    table.update_incremental()
    positions = read_positions(table, topic, covered.keys())
    due = due_records(batch, covered, positions, "the lake")
    rows = lake_rows(due.filter(pc.is_null(due["reason"])), topic.name)
    if listed := lake_list(table):
        rows = listed.forget_in(rows)
    landed = Landed(
        records=due.num_rows,
        rows=rows.num_rows,
        rejected=due.num_rows - rows.num_rows,
        skipped=batch.num_rows - due.num_rows,
        next_offsets=next_offsets(covered, positions),
    )
    if landed.next_offsets:
        start = time.perf_counter()
        _commit(table, rows, topic, landed.next_offsets)
        landed.milliseconds["write"] = round((time.perf_counter() - start) * 1000, 1)
        landed.files = len(pc.unique(rows[LAKE_PARTITION]))
    landed.version = table.version()
    return landed


def lake_rows(valid: pa.Table, topic_name: str) -> pa.Table:
    """Valid parsed records as rows of conf.lake.LAKE_SCHEMA."""
    added = {
        LAKE_PARTITION: valid["invoice_date"].cast(pa.date32()),
        "topic": pa.repeat(topic_name, valid.num_rows),
    }
    columns = [added[name] if name in added else valid[name] for name in LAKE_SCHEMA.names]
    return pa.table(columns, names=LAKE_SCHEMA.names).cast(LAKE_SCHEMA)


def open_lake(path: str) -> DeltaTable:
    """The lake at a folder or URL, created if there is none. Raises StreamingError if it is not ours to write (another
    schema, a broken log, no access), AwayError if the storage does not answer."""
    with reaching(path):
        try:
            table = DeltaTable.create(
                path,
                LAKE_SCHEMA,
                mode="ignore",
                partition_by=[LAKE_PARTITION],
                name="invoices",
                configuration={"delta.dataSkippingStatsColumns": ",".join(_STATS_COLUMNS)},
                storage_options=delta_options(path),
            )
        except CommitFailedError:  # another job created it at the same moment
            table = _opened(path)
    found = pa.schema(table.schema().to_arrow())
    if not found.equals(LAKE_SCHEMA):
        raise StreamingError(
            f"the lake at {path} has other columns than this version writes: found {_in_words(found)}; expected "
            f"{_in_words(LAKE_SCHEMA)}. Set LAKE_PATH to another place, or move that table away"
        )
    return table


def lake_exists(path: str) -> bool:
    """Whether there is a Delta table at a folder or URL. Raises StreamingError, AwayError as `existing_lake` does."""
    with reaching(path):
        try:
            _opened(path)  # not is_deltatable: while a storage is silent that one stops all of this process's threads
        except TableNotFoundError:
            return False
        return True


def existing_lake(path: str) -> DeltaTable:
    """The lake at a folder or URL. Raises StreamingError if there is none, or no access; AwayError if the storage does
    not answer."""
    with reaching(path):
        try:
            return _opened(path)
        except TableNotFoundError:
            raise StreamingError(
                f"no lake at {path} yet: land some invoices first (`python -m streaming run`), or set LAKE_PATH"
            ) from None


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """Around what touches the lake: raises AwayError for what may be tried again as it is (the storage does not answer,
    another writer came in between), StreamingError for the rest, in one line each."""
    try:
        yield
    except CommitFailedError as conflict:
        if failure(conflict):
            raise _explained(conflict, path) from None
        raise AwayError(f"the lake at {path} took no commit: {_first_line(conflict)}. Run it again") from None
    except (OSError, DeltaError) as error:
        raise _explained(error, path) from None
    except duckdb.Error as error:
        if failure(error) is None:
            raise
        raise _explained(error, path) from None


def committed(table: DeltaTable, commit: Callable[[], Result]) -> Result:
    """Do it on the newest version, and again while other commits come in between. Raises AwayError if it takes none, or
    the storage does not answer."""
    for tries_left in reversed(range(_TRIES)):
        with reaching(table.table_uri):
            try:
                table.update_incremental()
                return commit()
            except CommitFailedError:
                if not tries_left:
                    raise
    raise AssertionError("unreachable")


def kept_since(table: DeltaTable) -> date | None:
    """The first business date that the lake keeps whole; None if nothing was pruned from it."""
    days = table.transaction_version(_KEPT_SINCE)
    return None if days is None else _EPOCH + timedelta(days=days)


def delete_before(table: DeltaTable, since: date) -> int:
    """Delete the rows of earlier business dates and note the date, in one commit; returns how many there were."""
    days = (max(since, kept_since(table) or since) - _EPOCH).days
    noted = CommitProperties(app_transactions=[Transaction(_KEPT_SINCE, days)])
    done = table.delete(f"{LAKE_PARTITION} < '{since}'", commit_properties=noted)
    return int(done["num_deleted_rows"])


def check_topic(table: DeltaTable, topic: Topic) -> None:
    """Raise TopicChangedError if the lake's positions are of an earlier topic of this name; note a topic's first."""
    known = table.metadata().configuration.get(_topic_property(topic))
    if known is None:
        _describe_topic(table, topic)
    elif known != topic.topic_id:
        raise TopicChangedError(
            f"topic {topic.name!r} was re-created: it has id {topic.topic_id}, the lake's positions are of {known}. "
            "If its new records are to be landed from the first on, run `python -m streaming rewind` once (an invoice "
            "that is in the lake already has two rows then, of which its readers count the earliest)"
        )


def read_positions(table: DeltaTable, topic: Topic, partitions: Collection[int]) -> dict[int, int]:
    """The next offset to land of each partition that the lake knows."""
    found = {partition: table.transaction_version(_application(topic, partition)) for partition in partitions}
    return {p: position for p, position in found.items() if position is not None and position != _FORGOTTEN}


def advance(table: DeltaTable, topic: Topic, next_offsets: Mapping[int, int]) -> None:
    """Write the next offset to land of each partition, without rows."""
    _commit(table, LAKE_SCHEMA.empty_table(), topic, next_offsets)


def forget(table: DeltaTable, topic: Topic) -> None:
    """Forget how far the topic is landed, so that the next run lands it from its first record."""
    _commit(table, LAKE_SCHEMA.empty_table(), topic, dict.fromkeys(topic.end_offsets, _FORGOTTEN))
    _describe_topic(table, topic)


def _commit(table: DeltaTable, rows: pa.Table, topic: Topic, next_offsets: Mapping[int, int]) -> None:
    moved = sorted(next_offsets.items())
    write_deltalake(
        table,
        rows,
        mode="append",
        commit_properties=CommitProperties(
            app_transactions=[Transaction(_application(topic, partition), offset) for partition, offset in moved],
            # For people who read DESCRIBE HISTORY; what counts is the transactions.
            custom_metadata={"userMetadata": json.dumps({"topic": topic.name, "next_offsets": dict(moved)})},
        ),
    )


def _describe_topic(table: DeltaTable, topic: Topic) -> None:
    table.alter.set_table_properties({_topic_property(topic): topic.topic_id}, raise_if_not_exists=False)


def _topic_property(topic: Topic) -> str:
    return f"landing.topicId.{topic.name}"


def _application(topic: Topic, partition: int) -> str:
    return f"landing {topic.name} {topic.topic_id} {partition}"


def _in_words(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema)


def _opened(path: str) -> DeltaTable:
    return DeltaTable(path, storage_options=delta_options(path))


def _explained(error: Exception, path: str) -> StreamingError | AwayError:
    """The storage's failures may pass; what Delta itself says of the table does not."""
    path = path.rstrip("/")  # a table's own URL ends with one
    if found := failure(error):
        return (AwayError if found.passing else StreamingError)(f"the lake at {path} {found.reason}")
    return StreamingError(f"the lake at {path} cannot be used: {_first_line(error)}. Set LAKE_PATH, or repair it")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
