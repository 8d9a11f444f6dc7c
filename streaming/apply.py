"""Apply: one micro-batch into the mart, in one PostgreSQL transaction, exactly once."""

from __future__ import annotations

import io
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import structlog
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.errors import StreamingError
from conf.phases import Phases
from mart.erasure_list import read_list
from mart.next_offsets import Writer, advance, check_fence, read_next_offsets
from mart.quarantine import Rejected, quarantine
from mart.refused import REFUSALS, Refusal, find_refused, primary_message, takes
from mart.reject_reason import RejectReason
from mart.score import lock_scores, score
from sql import columns, one_row, statement
from topic.moment import as_text, is_storable, storable
from topic.offsets import Covered, advanced, due_records, spanned

log = structlog.get_logger()
# Of the rows as they came: there the record's place has shorter names.
_NAME_OF_ROWS = {"kafka_partition": "partition", "kafka_offset": "offset"}
STAGED_COLUMNS = [_NAME_OF_ROWS.get(column, column) for column in columns("apply/invoice_columns")]

Coordinates = tuple[int, int]  # partition, offset
RawValues = Callable[[Collection[Coordinates]], Mapping[Coordinates, bytes]]


@dataclass(frozen=True)
class Applied:
    """What one batch did. Each due record is an applied invoice, a duplicate, or rejected. `kafka_timestamps`: of the
    records whose latency they tell; `mart_batch`: its row in mart.batch, None without due records; `ahead_of_clock`:
    how many of the invoices are dated later than PostgreSQL's clock allows, and do not move the as-of date."""

    next_offsets: Mapping[int, int] = field(default_factory=dict)
    records: int = 0
    skipped: int = 0
    invoices: int = 0
    rejected_by_reason: Counter[RejectReason] = field(default_factory=Counter)
    kafka_timestamps: pa.ChunkedArray = field(default_factory=partial(pa.chunked_array, [], pa.timestamp("us", "UTC")))
    mart_batch: int | None = None
    ahead_of_clock: int = 0

    @property
    def rejected(self) -> int:
        return self.rejected_by_reason.total()

    @property
    def duplicates(self) -> int:
        return self.records - self.invoices - self.rejected

    @property
    def oldest_kafka_timestamp(self) -> datetime | None:
        return pc.min(self.kafka_timestamps).as_py()

    @property
    def newest_kafka_timestamp(self) -> datetime | None:
        return pc.max(self.kafka_timestamps).as_py()


def apply_batch(
    connection: Connection,
    writer: Writer,
    batch: pa.Table,
    raw_values: RawValues,
    covered: Covered | None = None,
    phases: Phases | None = None,
) -> Applied:
    """Apply one cleaned batch (streaming.clean's columns, one row per record) under the mart's own rules, and commit.

    `covered`: the offset ranges that it was read from, whose ends become the mart's next offsets; by default those that
    its rows span. Records before the mart's next offsets are skipped. A record that PostgreSQL refuses is quarantined
    as internal_error and the others are applied, still in one transaction. `raw_values` fetches the values of such
    records, and of those found to conflict with an invoice in the mart. Raises FencedError and GapError, and
    StreamingError if PostgreSQL refuses the batch but no record is to blame. psycopg2.Error leaves the mart unchanged,
    unless the connection broke in the commit itself: then a retry skips what was committed.
    """
    offsets = spanned(batch) if covered is None else covered
    try:
        return _apply(connection, writer, batch, raw_values, offsets, phases or Phases())
    except REFUSALS as refusal:
        log.warning("PostgreSQL refuses the batch, searching for the records", reason=primary_message(refusal))
    try:
        return _apply(connection, writer, batch, raw_values, offsets, phases or Phases(), search=True)
    except REFUSALS as refusal:
        raise StreamingError(
            f"PostgreSQL refuses the batch, but none of its records alone: {primary_message(refusal)}. The mart "
            "itself is at fault: undo what was changed in its tables. Nothing of the batch was applied"
        ) from refusal


def _apply(
    connection: Connection,
    writer: Writer,
    batch: pa.Table,
    raw_values: RawValues,
    covered: Covered,
    phases: Phases,
    search: bool = False,
) -> Applied:
    with ExitStack() as committing, connection, connection.cursor() as cursor:
        with phases("next_offsets"):
            check_fence(cursor, writer)
            next_offsets = read_next_offsets(cursor, writer.topic)
            due = due_records(batch, covered, next_offsets)
        applied = Applied(advanced(covered, next_offsets), due.num_rows, batch.num_rows - due.num_rows)
        if due.num_rows:
            applied = _apply_due(cursor, writer, due, applied, raw_values, phases, search)
        elif applied.next_offsets:  # offsets without a record, such as a transaction's markers
            advance(cursor, writer, applied.next_offsets)
        committing.enter_context(phases("commit"))  # whose end is that of the transaction's block
    return applied


def _apply_due(
    cursor: Cursor,
    writer: Writer,
    due: pa.Table,
    begun: Applied,
    raw_values: RawValues,
    phases: Phases,
    search: bool,
) -> Applied:
    is_valid = pc.is_null(due["reason"])
    valid, rejected = due.filter(is_valid), _rejected_by_parse(due.filter(pc.invert(is_valid)))
    if search:
        with phases("search"):
            valid, refused = _without_refused(cursor, writer, valid, raw_values)
        rejected += refused
    with phases("copy"):
        _stage(cursor, valid)
    with phases("insert"):
        invoices = _insert(cursor)
        if invoices < valid.num_rows:
            rejected += _conflicting_duplicates(cursor, raw_values)
    with phases("customers"):
        _count(cursor)
    with phases("score"):
        score(cursor)
    with phases("bookkeeping"):
        if rejected:
            quarantine(cursor, writer.topic, _without_erased(cursor, rejected))
        advance(cursor, writer, begun.next_offsets)
        reasons = Counter(r.reason for r in rejected)
        telling = _telling(due, datetime.now(UTC))
        applied = replace(begun, invoices=invoices, rejected_by_reason=reasons, kafka_timestamps=telling)
        return _recorded(cursor, writer, applied)


def _telling(due: pa.Table, now: datetime) -> pa.ChunkedArray:
    """The Kafka timestamps from which a record's latency can be computed: not those that were moved into the storable
    range, and not those in the future, from a clock that is ahead of this one."""
    is_moved = pc.equal(due["reason"], RejectReason.BAD_TIMESTAMP.value).combine_chunks()
    moments = due["kafka_timestamp"]
    is_past = pc.and_(is_storable(moments), pc.less_equal(moments, pa.scalar(now, moments.type)))
    return moments.filter(pc.and_not(is_past, pc.fill_null(is_moved, False)))


def _stage(cursor: Cursor, valid: pa.Table) -> None:
    _copy(cursor, valid)
    cursor.execute(statement("apply/forget_erased"))
    cursor.execute(statement("apply/skip_pruned"))


def _insert(cursor: Cursor) -> int:
    cursor.execute(statement("apply/insert_invoices"))
    return cursor.rowcount


def _count(cursor: Cursor) -> None:
    """Customers and clock, by the mart's rules as they are under the lock, whatever this job was started with."""
    returns_policy = lock_scores(cursor)
    cursor.execute(statement("apply/advance_clock"))
    cursor.execute(statement("apply/upsert_customers"), {"returns_policy": returns_policy})


def _recorded(cursor: Cursor, writer: Writer, applied: Applied) -> Applied:
    """With its row in mart.batch, and what that told."""
    counts = {name: getattr(applied, name) for name in ("records", "invoices", "duplicates", "rejected")}
    extremes = {"oldest": applied.oldest_kafka_timestamp, "newest": applied.newest_kafka_timestamp}
    values = {"topic": writer.topic.name, "epoch": writer.epoch, **counts, **extremes}
    cursor.execute(statement("apply/record_batch"), values)
    mart_batch, ahead_of_clock = one_row(cursor)
    return replace(applied, mart_batch=mart_batch, ahead_of_clock=ahead_of_clock)


def _without_refused(
    cursor: Cursor, writer: Writer, valid: pa.Table, raw_values: RawValues
) -> tuple[pa.Table, list[Rejected]]:
    """The records that PostgreSQL accepts, and the others, to be quarantined.

    First come those that it cannot even store, which is cheap to find; then those that overflow a sum, of a customer or
    of everyone. Raises StreamingError if it refuses a plain invoice too: then the records are not to blame.
    """
    # In the order in which records with one invoice number count.
    left = valid.sort_by([(column, "ascending") for column in ("kafka_timestamp", "partition", "offset")])

    def store(rows: pa.Table) -> None:
        cursor.execute(statement("refused/empty_stage"))
        _stage(cursor, rows)
        _insert(cursor)

    def apply(rows: pa.Table) -> None:
        cursor.execute(statement("refused/empty_stage"))
        _stage(cursor, rows)
        invoices = _insert(cursor)
        _count(cursor)
        score(cursor)
        _recorded(cursor, writer, Applied(records=rows.num_rows, invoices=invoices))

    refused: list[Rejected] = []
    for trial in (store, apply):
        found = find_refused(cursor, left, trial)
        places = pa.array([refusal.row for refusal in found], pa.int64())
        refused += _rejected_by_postgresql(left.take(places), found, raw_values)
        left = left.filter(pc.invert(pc.is_in(pa.array(range(left.num_rows), pa.int64()), places)))
    if refused and not takes(cursor, _plain_invoice(valid.schema), apply):
        raise StreamingError(
            f"PostgreSQL refuses every invoice, a plain one too: {refused[0].detail.partition(';')[0]}. The mart "
            "itself is at fault, not the records: undo what was changed in its tables. Nothing of the batch was applied"
        )
    return left, refused


def _rejected_by_postgresql(rows: pa.Table, found: list[Refusal], raw_values: RawValues) -> list[Rejected]:
    if not found:
        return []
    places = rows.select(["partition", "offset"]).to_pylist()
    moments = storable(rows["kafka_timestamp"]).to_pylist()
    raw = raw_values([(place["partition"], place["offset"]) for place in places])
    return [
        Rejected(partition, offset, moment, RejectReason.INTERNAL_ERROR, refusal.detail, raw[partition, offset])
        for (partition, offset), moment, refusal in zip(map(dict.values, places), moments, found, strict=True)
    ]


def _plain_invoice(schema: pa.Schema) -> pa.Table:
    """An ordinary invoice, of a customer of its own, for trials."""
    now, name = datetime.now(UTC), f"trial {uuid.uuid4()}"
    row = {
        "partition": 0,
        "offset": 0,
        "kafka_timestamp": now,
        "invoice": name,
        "invoice_date": now.replace(tzinfo=None),
        "customer_id": name,
        "content_sha256": "ff" * 32,
        "line_count": 1,
        "counting_lines": 1,
        "purchased": Decimal(0),
        "returned": Decimal(0),
    }
    return pa.Table.from_pylist([row], schema=schema)


def _copy(cursor: Cursor, valid: pa.Table) -> None:
    staged = valid.select(STAGED_COLUMNS)
    digest = pc.binary_join_element_wise("\\x", staged["content_sha256"], "")
    staged = staged.set_column(STAGED_COLUMNS.index("content_sha256"), "content_sha256", digest)
    for column in ("invoice_date", "kafka_timestamp"):
        staged = staged.set_column(STAGED_COLUMNS.index(column), column, as_text(staged[column]))
    rows = io.BytesIO()
    arrow_csv.write_csv(staged, rows, arrow_csv.WriteOptions(include_header=False))
    rows.seek(0)
    cursor.copy_expert(statement("apply/copy_staged"), rows)


def _rejected_by_parse(rows: pa.Table) -> list[Rejected]:
    at = rows.schema.get_field_index("kafka_timestamp")
    rows = rows.set_column(at, "kafka_timestamp", storable(rows["kafka_timestamp"]))
    return [
        Rejected(
            row["partition"],
            row["offset"],
            row["kafka_timestamp"],
            RejectReason(row["reason"]),
            row["detail"],
            row["raw"],
        )
        for row in rows.select(["partition", "offset", "kafka_timestamp", "reason", "detail", "raw"]).to_pylist()
    ]


def _without_erased(cursor: Cursor, rejected: list[Rejected]) -> list[Rejected]:
    """Records that mention an erased customer are quarantined without their value."""
    listed = read_list(cursor)
    return [replace(r, raw=None, detail="erased", erased=True) if listed.is_mentioned(r.raw) else r for r in rejected]


def _conflicting_duplicates(cursor: Cursor, raw_values: RawValues) -> list[Rejected]:
    cursor.execute(statement("apply/select_conflicts"))
    conflicts = cursor.fetchall()
    if not conflicts:
        return []
    raw = raw_values([(partition, offset) for partition, offset, *_ in conflicts])
    return [
        Rejected(
            partition,
            offset,
            kafka_timestamp,
            RejectReason.CONFLICTING_DUPLICATE,
            f"invoice {invoice!r} was applied from partition {first_partition} offset {first_offset}",
            raw[partition, offset],
        )
        for partition, offset, kafka_timestamp, invoice, first_partition, first_offset in conflicts
    ]
