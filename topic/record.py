"""A record of the topic, in Arrow's form. The executors have this file, too: it needs nothing but pyarrow."""

from __future__ import annotations

import pyarrow as pa

RECORD_SCHEMA = pa.schema(
    [
        ("value", pa.binary()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)


# What 64 bits of microseconds hold. A producer may send any 64 bits as milliseconds, so these stand for all beyond.
FARTHEST_MILLISECONDS = (2**63 - 1) // 1000
