"""Land: one micro-batch of parsed invoices into the lake, in one Delta commit, exactly once.

The same commit records how far each Kafka partition is landed: see lake/table.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from conf.lake import LAKE_PARTITION, LAKE_SCHEMA
from conf.phases import Phases
from lake.erasure_list import lake_list
from lake.table import append, committed, read_next_offsets
from topic.describe import Topic
from topic.offsets import Covered, advanced, due_records, spanned


@dataclass(frozen=True)
class Landed:
    """What one batch did. Each due record is a landed row or rejected; `skipped` ones were in the lake before."""

    records: int = 0
    rows: int = 0
    rejected: int = 0
    skipped: int = 0
    files: int = 0
    version: int = 0
    next_offsets: Mapping[int, int] = field(default_factory=dict)


def land_batch(
    table: DeltaTable, topic: Topic, batch: pa.Table, covered: Covered | None = None, phases: Phases | None = None
) -> Landed:
    """Append a parsed batch's valid invoices to the lake and commit, together with the topic's new next offsets.

    `batch`: one row per record, streaming.parse's columns. `covered`: the offset ranges that it was read from, whose
    ends become the lake's next offsets; by default those that its rows span. Records before the lake's next offsets are
    skipped. Raises GapError, and lands nothing, if the batch starts after them; UnavailableError if the storage fails:
    then a retry skips what was committed, if anything was.
    """
    offsets = spanned(batch) if covered is None else covered
    # Another job or a rewind may have moved the next offsets meanwhile: look again.
    return committed(table, lambda: _land_due(table, topic, batch, offsets, phases or Phases()))


def _land_due(table: DeltaTable, topic: Topic, batch: pa.Table, covered: Covered, phases: Phases) -> Landed:
    next_offsets = read_next_offsets(table, topic, covered.keys())
    due = due_records(batch, covered, next_offsets, "the lake")
    rows = lake_rows(due.filter(pc.is_null(due["reason"])), topic.name)
    if listed := lake_list(table):
        rows = listed.forget_in(rows)
    moved = advanced(covered, next_offsets)
    if moved:
        with phases("write"):
            append(table, rows, topic, moved)
    return Landed(
        records=due.num_rows,
        rows=rows.num_rows,
        rejected=due.num_rows - rows.num_rows,
        skipped=batch.num_rows - due.num_rows,
        files=len(pc.unique(rows[LAKE_PARTITION])) if moved else 0,
        version=table.version(),
        next_offsets=moved,
    )


def lake_rows(valid: pa.Table, topic_name: str) -> pa.Table:
    """Valid parsed records as rows of conf.lake.LAKE_SCHEMA."""
    added = {
        LAKE_PARTITION: valid["invoice_date"].cast(pa.date32()),
        "topic": pa.repeat(topic_name, valid.num_rows),
    }
    columns = [added[name] if name in added else valid[name] for name in LAKE_SCHEMA.names]
    return pa.table(columns, names=LAKE_SCHEMA.names).cast(LAKE_SCHEMA)
