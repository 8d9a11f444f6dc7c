"""Apply: one micro-batch into the mart, in one PostgreSQL transaction, exactly once."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import one_row, statement
from streaming.erasure_list import read_list
from streaming.positions import Writer, advance, check_fence, due_records, next_offsets, read_positions, spanned
from streaming.quarantine import Rejected, quarantine
from streaming.reject_reason import RejectReason
from streaming.score import lock_scores, score
from streaming.source import Covered

STAGED_COLUMNS = [
    "invoice",
    "invoice_date",
    "customer_id",
    "line_count",
    "counting_lines",
    "purchased",
    "returned",
    "content_sha256",
    "partition",
    "offset",
    "kafka_timestamp",
]

Coordinates = tuple[int, int]  # partition, offset
RawValues = Callable[[Collection[Coordinates]], Mapping[Coordinates, bytes]]


@dataclass
class Applied:
    """What one batch did. Each due record is an applied invoice, a duplicate, or rejected; `milliseconds` a phase;
    `kafka_timestamps` of the due records, one each; `mart_batch`: its row in mart.batch, None without due records."""

    mart_batch: int | None = None
    records: int = 0
    invoices: int = 0
    duplicates: int = 0
    rejected: int = 0
    skipped: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)
    oldest_kafka_timestamp: datetime | None = None
    newest_kafka_timestamp: datetime | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    rejected_by_reason: Counter[RejectReason] = field(default_factory=Counter)
    kafka_timestamps: pa.ChunkedArray | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.milliseconds[name] = round((time.perf_counter() - start) * 1000, 1)


def apply_batch(
    connection: Connection,
    writer: Writer,
    batch: pa.Table,
    returns_policy: Literal["ignore", "net"],
    raw_values: RawValues,
    covered: Covered | None = None,
) -> Applied:
    """Apply one cleaned batch (streaming.clean's columns, one row a record) and commit.

    `covered`: the offsets that it was read from, which the mart has passed then; by default those that its rows span.
    Records before the mart's positions are skipped. `raw_values` fetches the values of records found to conflict
    with an invoice in the mart. Raises FencedError, GapError; psycopg2.Error leaves the mart as it was, unless the
    connection broke in the commit itself: then trying again skips what was committed.
    """
    applied = Applied()
    started_at = datetime.now(UTC)
    with connection, connection.cursor() as cursor:
        with applied.phase("positions"):
            check_fence(cursor, writer)
            covered = spanned(batch) if covered is None else covered
            positions = read_positions(cursor, writer.topic)
            due = due_records(batch, covered, positions)
        applied.next_offsets = next_offsets(covered, positions)
        applied.skipped = batch.num_rows - due.num_rows
        applied.records = due.num_rows
        if due.num_rows:
            _apply_due(cursor, writer, due, returns_policy, raw_values, applied, started_at)
        elif applied.next_offsets:  # offsets without a record, such as a transaction's marks
            advance(cursor, writer, applied.next_offsets)
        commit_start = time.perf_counter()
    applied.milliseconds["commit"] = round((time.perf_counter() - commit_start) * 1000, 1)
    return applied


def _apply_due(
    cursor: Cursor,
    writer: Writer,
    due: pa.Table,
    returns_policy: str,
    raw_values: RawValues,
    applied: Applied,
    started_at: datetime,
) -> None:
    is_valid = pc.is_null(due["reason"])
    valid = due.filter(is_valid)
    rejected = _rejected_by_parse(due.filter(pc.invert(is_valid)))
    with applied.phase("copy"):
        _copy(cursor, valid)
        cursor.execute(statement("apply/forget_erased"))
        cursor.execute(statement("apply/skip_pruned"))
    with applied.phase("insert"):
        cursor.execute(statement("apply/insert_invoices"))
        applied.invoices = cursor.rowcount
        if applied.invoices < valid.num_rows:
            rejected += _conflicting_duplicates(cursor, raw_values)
    with applied.phase("customers"):
        lock_scores(cursor)
        cursor.execute(statement("apply/advance_clock"))
        cursor.execute(statement("apply/upsert_customers"), {"returns_policy": returns_policy})
    with applied.phase("score"):
        score(cursor)
    with applied.phase("bookkeeping"):
        if rejected:
            quarantine(cursor, writer.topic, _without_erased(cursor, rejected))
        applied.rejected = len(rejected)
        applied.rejected_by_reason = Counter(r.reason for r in rejected)
        applied.duplicates = applied.records - applied.invoices - applied.rejected
        advance(cursor, writer, applied.next_offsets)
        applied.kafka_timestamps = due["kafka_timestamp"]
        extremes = pc.min_max(due["kafka_timestamp"]).as_py()
        applied.oldest_kafka_timestamp, applied.newest_kafka_timestamp = extremes["min"], extremes["max"]
        cursor.execute(
            statement("apply/record_batch"),
            {
                "topic": writer.topic.name,
                "epoch": writer.epoch,
                "started_at": started_at,
                "records": applied.records,
                "invoices": applied.invoices,
                "duplicates": applied.duplicates,
                "rejected": applied.rejected,
                "oldest": applied.oldest_kafka_timestamp,
                "newest": applied.newest_kafka_timestamp,
            },
        )
        (applied.mart_batch,) = one_row(cursor)


def _copy(cursor: Cursor, valid: pa.Table) -> None:
    staged = valid.select(STAGED_COLUMNS)
    digest = pc.binary_join_element_wise("\\x", staged["content_sha256"], "")
    staged = staged.set_column(STAGED_COLUMNS.index("content_sha256"), "content_sha256", digest)
    rows = io.BytesIO()
    arrow_csv.write_csv(staged, rows, arrow_csv.WriteOptions(include_header=False))
    rows.seek(0)
    cursor.copy_expert(statement("apply/copy_staged"), rows)


def _rejected_by_parse(rows: pa.Table) -> list[Rejected]:
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
    """What erased customers are in is quarantined without its value."""
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
