"""Coordinates of records, as a batch has them."""

from __future__ import annotations

import pyarrow as pa


def batch(*coordinates):
    partitions, offsets = zip(*coordinates, strict=True) if coordinates else ((), ())
    return pa.table({"partition": pa.array(partitions, pa.int32()), "offset": pa.array(offsets, pa.int64())})
