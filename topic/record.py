"""A record of the topic in Arrow. The executors get this file too, so it needs nothing but pyarrow."""

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


# What 64 bits of microseconds hold. A producer may send any 64 bits as milliseconds; anything beyond is moved to these.
FARTHEST_MILLISECONDS = (2**63 - 1) // 1000
