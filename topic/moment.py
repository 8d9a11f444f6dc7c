"""Kafka's moments: a record's date or timestamp may be any 64 bits; this is what PostgreSQL, Python and Arrow can
represent."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

# What every reader's zone still has a year for.
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def storable(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """The moments, those out of range moved to the nearest end of the range."""
    earliest, latest = (pa.scalar(end, moments.type) for end in (EARLIEST, LATEST))
    moments = pc.if_else(pc.less(moments, earliest), earliest, moments)
    return pc.if_else(pc.greater(moments, latest), latest, moments)


def is_storable(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each moment, whether it is in the range."""
    return pc.fill_null(pc.equal(moments, storable(moments)), True)


def as_text(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """The moments as PostgreSQL reads or refuses them: for the year 67561 Arrow writes 2025."""
    in_range = is_storable(moments)
    if pc.all(in_range, min_count=0).as_py():
        return moments
    number = pc.binary_join_element_wise("out of range:", moments.cast(pa.int64()).cast(pa.string()), " ")
    return pc.if_else(in_range, pc.if_else(in_range, moments, None).cast(pa.string()), number)
