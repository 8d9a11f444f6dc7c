"""The lake's table: open it, reach it, write to it, and know how far each Kafka partition is landed.

The lake's own log records how far each Kafka partition is landed, as Delta's application transactions: one action
`txn(appId = landing <topic> <topic id> <partition>, version = next offset)` in the same commit as the rows. Two
concurrent commits that advance the same partition conflict, and the loser reads the next offsets again. Compaction,
vacuum, Delta's checkpoints and the expiry of its log keep them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from conf.errors import StreamingError, TopicChangedError, UnavailableError
from conf.lake import LAKE_PARTITION, LAKE_SCHEMA
from conf.lake_storage import delta_options, failure
from topic.describe import Topic

_TRIES = 10


# Delta's log keeps the minimum and maximum of these columns for each file; a customer's id must not be among them.
_STATS_COLUMNS = ("invoice", "invoice_date", "topic", "partition", "offset", "kafka_timestamp")


_FORGOTTEN = -1  # a next offset of a topic that is to be landed from its first record again


Result = TypeVar("Result")


def open_lake(path: str) -> DeltaTable:
    """The lake at a folder or URL, created if it does not exist. Columns that this version introduced are added to an
    older lake, whose rows have null there. Raises StreamingError if we must not write it (another schema, a broken log,
    no access), UnavailableError if the storage is unavailable."""
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
    committed(table, lambda: _add_columns(table))
    found = pa.schema(table.schema().to_arrow())
    if not found.equals(LAKE_SCHEMA):
        raise StreamingError(
            f"the lake at {path} has other columns than this version writes: found {_in_words(found)}; expected "
            f"{_in_words(LAKE_SCHEMA)}. Set LAKE_PATH to another place, or move that table away"
        )
    return table


def _add_columns(table: DeltaTable) -> None:
    """Add to an older version's lake the columns that LAKE_SCHEMA has after its last one."""
    found = pa.schema(table.schema().to_arrow())
    is_older = len(found) < len(LAKE_SCHEMA) and found.equals(pa.schema(list(LAKE_SCHEMA)[: len(found)]))
    if is_older and table.metadata().partition_columns == [LAKE_PARTITION]:
        table.alter.add_columns(Schema.from_arrow(LAKE_SCHEMA).fields[len(found) :])


def ask(table: DeltaTable, question: str, customer: str) -> pa.Table:
    """The answer to SQL with the relation `lake` and a `{customer}`. Raises what `reaching` raises.

    Uses delta-rs's own engine: Arrow's threads return delta-rs's files to Python after the last row has arrived, and if
    the process ends meanwhile, as it does after a command, they abort it
    (https://github.com/apache/arrow/issues/34314).
    """
    with reaching(table.table_uri):
        asked = question.format(customer=customer.replace("'", "''"))
        return pa.table(QueryBuilder().register("lake", table).execute(asked))


def landed_rows(table: DeltaTable) -> ds.Dataset:
    """The rows of the version that `table` is at, in LAKE_SCHEMA: null where an older version lacks the column."""
    return table.to_pyarrow_dataset(schema=LAKE_SCHEMA)


def find_lake(path: str) -> DeltaTable | None:
    """The lake at a folder or URL, None if there is none. Raises StreamingError without access, UnavailableError if the
    storage is unavailable."""
    with reaching(path):
        try:
            return _opened(path)  # not is_deltatable, which blocks this process's threads while a storage is silent
        except TableNotFoundError:
            return None


def lake_exists(path: str) -> bool:
    """Whether there is a Delta table at a folder or URL. Raises what `find_lake` raises."""
    return find_lake(path) is not None


def existing_lake(path: str) -> DeltaTable:
    """The lake at a folder or URL. Raises StreamingError if there is none, and what `find_lake` raises."""
    table = find_lake(path)
    if table is None:
        raise StreamingError(f"no lake at {path} yet: land some invoices first (`retail-mart run`), or set LAKE_PATH")
    return table


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """Use around anything that touches the lake. Raises UnavailableError for what may be retried (the storage is
    unavailable, another writer came in between), StreamingError for everything else, each in one line."""
    try:
        yield
    except CommitFailedError as conflict:
        if failure(conflict):
            raise _explained(conflict, path) from None
        raise UnavailableError(f"the lake at {path} took no commit: {_first_line(conflict)}") from None
    except (OSError, DeltaError) as error:
        raise _explained(error, path) from None
    except duckdb.Error as error:
        if failure(error) is None:
            raise
        raise _explained(error, path) from None


def committed(table: DeltaTable, commit: Callable[[], Result]) -> Result:
    """Do it on the newest version, and again as long as other commits come in between. Raises UnavailableError if that
    never succeeds, or if the storage is unavailable."""
    for tries_left in reversed(range(_TRIES)):
        with reaching(table.table_uri):
            try:
                table.update_incremental()
                return commit()
            except CommitFailedError:
                if not tries_left:
                    raise
    raise AssertionError("unreachable")


def record_topic(table: DeltaTable, topic: Topic) -> None:
    """Raise TopicChangedError if the lake's next offsets belong to an earlier topic of this name; record a topic's
    first one."""
    known = table.metadata().configuration.get(_topic_property(topic))
    if known is None:
        _write_topic(table, topic)
    elif known != topic.topic_id:
        raise TopicChangedError(
            f"topic {topic.name!r} was re-created: it has id {topic.topic_id}, the lake's next offsets are of {known}. "
            "To land its new records from the first one, run `retail-mart rewind` once (an invoice that is already "
            "in the lake then has two rows, of which its readers count the earliest)"
        )


def read_next_offsets(table: DeltaTable, topic: Topic, partitions: Collection[int]) -> dict[int, int]:
    """The next offset to land of each partition that the lake knows."""
    found = {partition: table.transaction_version(_application(topic, partition)) for partition in partitions}
    return {p: next_offset for p, next_offset in found.items() if next_offset is not None and next_offset != _FORGOTTEN}


def advance(table: DeltaTable, topic: Topic, next_offsets: Mapping[int, int]) -> None:
    """Write the next offset to land of each partition, without rows."""
    append(table, LAKE_SCHEMA.empty_table(), topic, next_offsets)


def forget(table: DeltaTable, topic: Topic) -> None:
    """Forget how far the topic is landed, so that the next run lands it from its first record."""
    append(table, LAKE_SCHEMA.empty_table(), topic, dict.fromkeys(topic.end_offsets, _FORGOTTEN))
    _write_topic(table, topic)


def append(table: DeltaTable, rows: pa.Table, topic: Topic, next_offsets: Mapping[int, int]) -> None:
    """Write rows of conf.lake.LAKE_SCHEMA, and the next offset to land of each partition, in one commit."""
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


def _write_topic(table: DeltaTable, topic: Topic) -> None:
    table.alter.set_table_properties({_topic_property(topic): topic.topic_id}, raise_if_not_exists=False)


def _topic_property(topic: Topic) -> str:
    return f"landing.topicId.{topic.name}"


def _application(topic: Topic, partition: int) -> str:
    return f"landing {topic.name} {topic.topic_id} {partition}"


def _in_words(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema)


def _opened(path: str) -> DeltaTable:
    return DeltaTable(path, storage_options=delta_options(path))


def _explained(error: Exception, path: str) -> StreamingError | UnavailableError:
    """The storage's failures may be transient; what Delta itself says about the table is not."""
    path = path.rstrip("/")  # a table's own URL ends with one
    if found := failure(error):
        return (UnavailableError if found.passing else StreamingError)(f"the lake at {path} {found.reason}")
    return StreamingError(f"the lake at {path} cannot be used: {_first_line(error)}. Set LAKE_PATH, or repair it")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
