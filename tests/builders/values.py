"""Values of records as a producer may send them: right ones, and each way to be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa

from mart.reject_reason import RejectReason
from tests.builders.case_ids import case_id

PRODUCED_AT = datetime(2010, 12, 1, 3, 0, tzinfo=UTC)  # 10:00 in the shop
LINE = {"stock_code": "85123A", "description": "HOLDER", "quantity": 6, "price": "2.55"}
EVENT = {
    "version": 1,
    "invoice": "536365",
    "invoice_date": "2010-12-01T08:26:00",
    "customer_id": "17850",
    "lines": [LINE],
}


def event(**changes) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def line(**changes) -> bytes:
    return event(lines=[LINE, {**LINE, **changes}])


def without(field: str) -> bytes:
    return json.dumps({k: v for k, v in EVENT.items() if k != field}).encode()


def without_in_line(field: str) -> bytes:
    return event(lines=[{k: v for k, v in LINE.items() if k != field}])


WRONG = [
    (None, RejectReason.NO_VALUE),
    (b"", RejectReason.NOT_JSON),
    (b"{", RejectReason.NOT_JSON),
    (event()[:-1], RejectReason.NOT_JSON),
    (event() + b" {}", RejectReason.NOT_JSON),
    (event() + b"x", RejectReason.NOT_JSON),
    (b"\xef\xbb\xbf" + event(), RejectReason.NOT_JSON),
    (b"[" * 100_000, RejectReason.NOT_JSON),
    (b'{"version": ' + b"1" * 5000 + b"}", RejectReason.NOT_JSON),
    (event().replace(b"HOLDER", b"HOL\nDER"), RejectReason.NOT_JSON),
    (event().replace(b"HOLDER", b"HOL\x00DER"), RejectReason.NOT_JSON),
    (b"\xff\xfe", RejectReason.NOT_UTF8),
    (event().replace(b"HOLDER", b"\xed\xa0\x80"), RejectReason.NOT_UTF8),
    (event().replace(b'"version": 1', b'"version": 1, "version": 1'), RejectReason.DUPLICATE_KEY),
    (event().replace(b'"quantity": 6', b'"quantity": 6, "quantity": 7'), RejectReason.DUPLICATE_KEY),
    (b"[]", RejectReason.NOT_AN_OBJECT),
    (b"null", RejectReason.NOT_AN_OBJECT),
    (b"7", RejectReason.NOT_AN_OBJECT),
    (event(lines=["x"]), RejectReason.NOT_AN_OBJECT),
    (event(lines=[None]), RejectReason.NOT_AN_OBJECT),
    (event(version=2), RejectReason.UNKNOWN_VERSION),
    (event(version="1"), RejectReason.UNKNOWN_VERSION),
    (event(version=True), RejectReason.UNKNOWN_VERSION),
    (event(version=None), RejectReason.UNKNOWN_VERSION),
    (event(version="\ud800"), RejectReason.UNKNOWN_VERSION),
    (event().replace(b'"version": 1', b'"version": ' + b"[" * 900 + b"]" * 900), RejectReason.UNKNOWN_VERSION),
    *[(without(field), RejectReason.MISSING_FIELD) for field in EVENT],
    *[(without_in_line(field), RejectReason.MISSING_FIELD) for field in LINE],
    (event(invoice=536365), RejectReason.WRONG_TYPE),
    (event(invoice=None), RejectReason.WRONG_TYPE),
    (event(customer_id=17850), RejectReason.WRONG_TYPE),
    (event(invoice_date=1291191960), RejectReason.WRONG_TYPE),
    (event(lines={}), RejectReason.WRONG_TYPE),
    (event(lines=None), RejectReason.WRONG_TYPE),
    (line(quantity="6"), RejectReason.WRONG_TYPE),
    (line(quantity=True), RejectReason.WRONG_TYPE),
    (line(quantity=None), RejectReason.WRONG_TYPE),
    (line(price=2.55), RejectReason.WRONG_TYPE),
    (line(price=None), RejectReason.WRONG_TYPE),
    (line(description=None), RejectReason.WRONG_TYPE),
    (event(invoice=""), RejectReason.EMPTY_TEXT),
    (event(customer_id=""), RejectReason.EMPTY_TEXT),
    (line(stock_code=""), RejectReason.EMPTY_TEXT),
    (event(invoice="9" * 65), RejectReason.TEXT_TOO_LONG),
    (line(description="x" * 1001), RejectReason.TEXT_TOO_LONG),
    (line(description="a\x00b"), RejectReason.NUL_CHARACTER),
    (event(invoice="\x00"), RejectReason.NUL_CHARACTER),
    (line(description="\ud800"), RejectReason.BAD_CHARACTER),
    (event(customer_id="\udfff"), RejectReason.BAD_CHARACTER),
    (event(invoice_date="2010-02-30T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T24:00:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01 08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01t08:26:00z"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00 Z"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:60"), RejectReason.BAD_DATE),  # a leap second
    (event(invoice_date="2010-12-01T08:26:00+0700"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00+07"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00+25:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00+24:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00+07:60"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00+07:00:01"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00.1234567"), RejectReason.BAD_DATE),  # a tenth of a microsecond
    (event(invoice_date="2010-12-01T08:26:00."), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00,5"), RejectReason.BAD_DATE),
    (event(invoice_date="0001-01-01T00:00:00+14:00"), RejectReason.BAD_DATE),
    (event(invoice_date="9999-12-31T23:59:59-12:00"), RejectReason.BAD_DATE),
    (event(invoice_date="1900-01-01T00:00:00+14:00"), RejectReason.BAD_DATE),  # 1899 in the shop
    (event(invoice_date="2099-12-31T20:00:00Z"), RejectReason.BAD_DATE),  # 2100 in the shop
    (event(invoice_date="2010-W48-3T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="01/12/2010 08:26"), RejectReason.BAD_DATE),
    (event(invoice_date="0010-12-01T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="２010-12-01T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date=""), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-02T10:00:01"), RejectReason.FUTURE_DATE),
    (event(invoice_date="2010-12-02T10:00:00.000001"), RejectReason.FUTURE_DATE),
    (event(invoice_date="2010-12-02T03:00:01Z"), RejectReason.FUTURE_DATE),
    (event(invoice_date="2010-12-02T12:00:01+09:00"), RejectReason.FUTURE_DATE),
    (event(invoice_date="2099-12-01T08:26:00"), RejectReason.FUTURE_DATE),
    (line(price="NaN"), RejectReason.NOT_FINITE),
    (line(price="-Infinity"), RejectReason.NOT_FINITE),
    (line(quantity=float("nan")), RejectReason.NOT_FINITE),
    (line(quantity=float("inf")), RejectReason.NOT_FINITE),
    (line(quantity=6.5), RejectReason.BAD_NUMBER),
    (line(quantity=2**31), RejectReason.BAD_NUMBER),
    (line(quantity=-(2**31) - 1), RejectReason.BAD_NUMBER),
    (line().replace(b'"quantity": 6', b'"quantity": 1e999'), RejectReason.BAD_NUMBER),
    (line(price=""), RejectReason.BAD_NUMBER),
    (line(price="2,55"), RejectReason.BAD_NUMBER),
    (line(price=" 2.55"), RejectReason.BAD_NUMBER),
    (line(price="2."), RejectReason.BAD_NUMBER),
    (line(price="1e3"), RejectReason.BAD_NUMBER),
    (line(price="٢"), RejectReason.BAD_NUMBER),
    (line(price="1" * 17), RejectReason.BAD_NUMBER),
    (line(price="1.255"), RejectReason.PRICE_SCALE),
    (line(price="-0.001"), RejectReason.PRICE_SCALE),
    (event(lines=[]), RejectReason.NO_LINES),
    (line(quantity=2**31 - 1, price="9999999999999999.99"), RejectReason.AMOUNT_OUT_OF_RANGE),
    (line(quantity=-(2**31), price="9999999999999999.99"), RejectReason.AMOUNT_OUT_OF_RANGE),
    (line(quantity=1, price="1000000000000000.01"), RejectReason.AMOUNT_OUT_OF_RANGE),
    (line(quantity=-1, price="-1000000000000000.01"), RejectReason.AMOUNT_OUT_OF_RANGE),
    (
        event(lines=[{**LINE, "quantity": q, "price": "500000000000001"} for q in (1, -1)]),
        RejectReason.AMOUNT_OUT_OF_RANGE,
    ),
]


def kafka_records(values, milliseconds=None) -> pa.RecordBatch:
    """Records of partition 0, with these record timestamps in milliseconds, as Spark hands them over."""
    moments = milliseconds or [round(PRODUCED_AT.timestamp() * 1000)] * len(values)
    micros = pa.array([None if ms is None else ms * 1000 for ms in moments], pa.int64())
    return pa.RecordBatch.from_pydict(
        {
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
            "timestamp": micros.cast(pa.timestamp("us", "UTC")),
        }
    )


def changed(value: object) -> str | None:
    """The id of a case: what of its value is not as in EVENT."""
    if not isinstance(value, bytes):
        return None
    try:
        differing = ", ".join(_differing(json.loads(value), EVENT))
    except (ValueError, AttributeError, TypeError, RecursionError):
        differing = ""
    return case_id(differing or _from_the_first_difference(value))


def _differing(document: dict, usual: dict) -> Iterator[str]:
    for name in {**usual, **document}:
        if name == "lines" and isinstance(document.get(name), list):
            lines = [line if isinstance(line, dict) else {"line": line} for line in document[name]]
            yield from (f"lines {len(lines)}" for _ in [0] if len(lines) not in (1, 2))
            yield from (one for line in lines[-2:] for one in _differing(line, LINE))
        elif name not in document:
            yield f"no {name}"
        elif document[name] != usual.get(name):
            yield f"{name}={document[name]!r}"


def _from_the_first_difference(value: bytes) -> str:
    same = next((n for n, (one, other) in enumerate(zip(value, event(), strict=False)) if one != other), 0)
    return value[max(0, same - 20) :].decode("ascii", "backslashreplace") or "nothing"
