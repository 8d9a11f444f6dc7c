"""Clean: decide what counts in each invoice, by the rules of `conf/line_rules.toml`. Runs on the executors, after
parse.

`sql/spark.sql` has the same rules for the nightly job, and the tests hold both to each other. Here they run without
Spark: its SQL evaluates a condition on the lines of an array value by value, which took more processor time than the
rest of a batch together.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streaming.parse import parse_records, rejected

_MONEY = pa.decimal128(38, 2)
_INT64_MAX = 2**63 - 1


def parse_and_clean(
    records: pa.RecordBatch, zone: ZoneInfo, max_bytes: int, admin_codes: Collection[str]
) -> pa.RecordBatch:
    """A batch of Kafka records as cleaned rows: the executors' step for apply.

    A record that cannot be cleaned is rejected like one that cannot be parsed, and the others continue.
    """
    return _parsed_and_cleaned(records, zone, max_bytes, admin_codes)[1]


def parse_to_land(
    records: pa.RecordBatch, zone: ZoneInfo, max_bytes: int, admin_codes: Collection[str]
) -> pa.RecordBatch:
    """The same records as streaming.parse returns them, including their lines: the executors' step for landing.

    Whatever parse_and_clean rejects is rejected here too, because the lake must not hold what the mart refused. The
    bytes and the detail of such a record are dropped: quarantine is up to the mart.
    """
    return _parsed_and_cleaned(records, zone, max_bytes, admin_codes)[0].drop_columns(["detail", "raw"])


def _parsed_and_cleaned(
    records: pa.RecordBatch, zone: ZoneInfo, max_bytes: int, admin_codes: Collection[str]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    parsed = parse_records(records, zone, max_bytes)
    try:
        return parsed, clean(parsed, admin_codes)
    except Exception:  # one by one, to find the record that fails
        raw = records.column("value")
        pairs = [_one_cleaned(parsed.slice(at, 1), raw.slice(at, 1), admin_codes) for at in range(parsed.num_rows)]
        rows, cleaned = zip(*pairs, strict=True)
        return pa.concat_batches(rows), pa.concat_batches(cleaned)


def _one_cleaned(
    parsed: pa.RecordBatch, raw: pa.Array, admin_codes: Collection[str]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    try:
        return parsed, clean(parsed, admin_codes)
    except Exception as error:
        refused = rejected(parsed, raw, error)
        return refused, clean(refused, admin_codes)


def clean(parsed: pa.RecordBatch, admin_codes: Collection[str]) -> pa.RecordBatch:
    """Parsed records (streaming.parse) with these columns in place of `lines`, null if the record is rejected:

    - line_count: lines of the invoice; counting_lines: those that count;
    - purchased: sum of quantity x price over the counting lines, decimal(38,2), in the shop's currency;
    - returned: the same over returned product lines, zero or negative.

    One row in, one row out. `admin_codes`: stock codes that are not products, in capitals, spaces trimmed.
    """
    lines = parsed.column("lines")
    rejected = pc.is_null(lines).to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(lines), 0).to_numpy()
    flat = lines.flatten()
    quantity = flat.field("quantity").to_numpy()
    cents = _cents(flat.field("price"))
    product = (cents > 0) & _is_product(flat, frozenset(admin_codes))
    cancelled = pc.fill_null(pc.starts_with(parsed.column("invoice"), "C"), False).to_numpy(zero_copy_only=False)
    counting = product & (quantity > 0) & ~np.repeat(cancelled, lengths)
    returned = product & (quantity < 0)
    columns = {
        "line_count": pa.array(lengths, pa.int32(), mask=rejected),
        "counting_lines": pa.array(_sums(counting.astype(np.int64), lengths), pa.int32(), mask=rejected),
        "purchased": _amounts(counting, quantity, cents, lengths, rejected),
        "returned": _amounts(returned, quantity, cents, lengths, rejected),
    }
    kept = parsed.drop_columns(["lines"])
    return pa.RecordBatch.from_arrays([*kept.columns, *columns.values()], names=[*kept.schema.names, *columns])


def _is_product(flat: pa.StructArray, admin_codes: frozenset[str]) -> npt.NDArray[np.bool_]:
    codes = flat.field("stock_code").dictionary_encode()
    is_code = np.array([_is_product_code(code, admin_codes) for code in codes.dictionary.to_pylist()], dtype=bool)
    described = pc.not_equal(pc.utf8_trim(flat.field("description"), " "), "").to_numpy(zero_copy_only=False)
    return is_code[codes.indices.to_numpy()] & described


@lru_cache(maxsize=65_536)
def _is_product_code(code: str, admin_codes: frozenset[str]) -> bool:
    return any(character in "0123456789" for character in code) and code.strip(" ").upper() not in admin_codes


def _amounts(
    chosen: npt.NDArray[np.bool_],
    quantity: npt.NDArray[np.int32],
    cents: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    rejected: npt.NDArray[np.bool_],
) -> pa.Array:
    """For each invoice, the sum of quantity x price over the chosen lines, exact for whatever a record may contain."""
    quantities, prices = quantity[chosen].astype(np.int64), cents[chosen]
    counts = _sums(chosen.astype(np.int64), lengths)
    most = int(counts.max(initial=0)) * int(np.abs(quantities).max(initial=0)) * int(prices.max(initial=0))
    if most > _INT64_MAX:
        sold = (q * p for q, p in zip(quantities.tolist(), prices.tolist(), strict=True))
        sums = [sum(next(sold) for _ in range(count)) for count in counts.tolist()]
        values = [None if r else Decimal(s).scaleb(-2) for s, r in zip(sums, rejected.tolist(), strict=True)]
        return pa.array(values, _MONEY)
    low = _sums(quantities * prices, counts)
    words = np.column_stack([low, low >> 63])  # an Arrow decimal is a 128-bit integer, low half first
    decimals = pa.Array.from_buffers(_MONEY, len(low), [None, pa.py_buffer(words)])
    return pc.if_else(pa.array(rejected), pa.scalar(None, _MONEY), decimals)


def _sums(values: npt.NDArray[np.int64], lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The sum of each run of that many values. Exact if each one fits into 64 bits, even if the running total does
    not."""
    ends = np.cumsum(lengths, dtype=np.int64)
    totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    return np.asarray(totals[ends] - totals[ends - lengths])


def _cents(price: pa.Array) -> npt.NDArray[np.int64]:
    """decimal(18,2) in hundredths, which 64 bits hold: the low half of each."""
    words = np.frombuffer(price.buffers()[1], np.int64)
    return np.ascontiguousarray(words[2 * price.offset : 2 * (price.offset + len(price)) : 2])
