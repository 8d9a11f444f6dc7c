"""Parse: the bytes of one Kafka record into one invoice, or into the reason why not. Runs on the executors.

`parse_invoice` is the strict parser of `conf/invoice_event.schema.json`. It reads the JSON itself rather than through
Spark's from_json, which silently accepts trailing garbage, duplicate keys, NUL and NaN, and rounds 1.255 to 1.26.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from conf.lake import LAKE_SCHEMA
from mart.reject_reason import RejectReason
from streaming.invoice import (
    MAX_AMOUNT_CENTS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_QUANTITY,
    Invoice,
    Line,
    cents,
    content_sha256,
    shop_time,
)
from streaming.parse_plain import PRICE, parse_plain
from topic.record import FARTHEST_MILLISECONDS

FUTURE_TOLERANCE = timedelta(days=1)
# No time zone is, or was, further behind UTC.
_FARTHEST_BEHIND_UTC = timedelta(hours=16)
# Record timestamps that Python, PostgreSQL and a person can read. Values that are not milliseconds are far outside.
FIRST_TIMESTAMP = datetime(1970, 1, 1, tzinfo=UTC)
LAST_TIMESTAMP = datetime(2100, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
_FINE_PRICE = re.compile(r"-?[0-9]{1,16}\.[0-9]{3,}", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE)
_DETAIL_CHARACTERS = 200

PARSED_SCHEMA = pa.schema(
    [
        *map(LAKE_SCHEMA.field, ("partition", "offset", "kafka_timestamp", *Invoice.__struct_fields__)),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
    ]
)


class RejectedError(Exception):
    """A record that violates the contract: the reason, and the field and value that show it."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        storable = detail[:_DETAIL_CHARACTERS].replace("\x00", "\\0")
        self.detail = storable.encode("utf-8", "backslashreplace").decode("utf-8")

    @classmethod
    def unforeseen(cls, error: Exception) -> RejectedError:
        """For a record that failed in a way that no other reason covers."""
        return cls(RejectReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")


def parse_invoice(value: bytes | None, produced_at: datetime, zone: ZoneInfo, max_bytes: int = 1_000_000) -> Invoice:
    """Read one record's value as an invoice.

    `produced_at` is the record's timestamp (aware), `zone` the shop's. Raises RejectedError, and nothing else, whatever
    the bytes.
    """
    if value is None:
        _reject(RejectReason.NO_VALUE, "null value")
    if len(value) > max_bytes:
        _reject(RejectReason.TOO_LARGE, f"{len(value)} bytes, allowed {max_bytes}")
    event = _json_object(value)
    if "version" not in event:
        _reject(RejectReason.MISSING_FIELD, "version")
    version = event["version"]
    if isinstance(version, bool) or not isinstance(version, int | float) or version != 1:
        shown = _json_type(version) if isinstance(version, dict | list) else ascii(version)  # as deep as may be
        _reject(RejectReason.UNKNOWN_VERSION, f"version = {shown}, known: 1")
    for field in ("invoice", "invoice_date", "customer_id", "lines"):
        if field not in event:
            _reject(RejectReason.MISSING_FIELD, field)
    # Text that no table can store comes only through escapes: raw control characters are not JSON.
    escaped = b"\\u" in value
    invoice = _text(event["invoice"], "invoice", MAX_ID_CHARACTERS, escaped)
    customer = event["customer_id"]
    if customer is not None:
        customer = _text(customer, "customer_id", MAX_ID_CHARACTERS, escaped)
    invoice_date = _date(event["invoice_date"], produced_at, zone)
    if not isinstance(event["lines"], list):
        _reject(RejectReason.WRONG_TYPE, f"lines is {_json_type(event['lines'])}, not an array")
    if not event["lines"]:
        _reject(RejectReason.NO_LINES, "lines = []")
    lines = [_line(line, at, escaped) for at, line in enumerate(event["lines"])]
    _check_amount(lines)
    return Invoice(invoice, invoice_date, customer, lines, content_sha256(invoice, invoice_date, customer, lines))


def _reject(reason: RejectReason, detail: str) -> NoReturn:
    raise RejectedError(reason, detail)


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError(RejectReason.NOT_UTF8, str(error)) from None
    try:
        event = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of more than 4,300 digits
        raise RejectedError(RejectReason.NOT_JSON, str(error)) from None
    if not isinstance(event, dict):
        _reject(RejectReason.NOT_AN_OBJECT, f"the document is {_json_type(event)}")
    return event


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keyed = dict(pairs)
    if len(keyed) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        _reject(RejectReason.DUPLICATE_KEY, ascii(twice))
    return keyed


def _not_finite(constant: str) -> NoReturn:
    _reject(RejectReason.NOT_FINITE, constant)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _text(value: Any, field: str, longest: int, escaped: bool, shortest: int = 1) -> str:
    if not isinstance(value, str):
        _reject(RejectReason.WRONG_TYPE, f"{field} is {_json_type(value)}, not a string")
    if len(value) < shortest:
        _reject(RejectReason.EMPTY_TEXT, field)
    if len(value) > longest:
        _reject(RejectReason.TEXT_TOO_LONG, f"{field} has {len(value)} characters, allowed {longest}")
    if escaped:
        if "\x00" in value:
            _reject(RejectReason.NUL_CHARACTER, field)
        if any("\ud800" <= character <= "\udfff" for character in value):
            _reject(RejectReason.BAD_CHARACTER, f"{field} = {value!a}")
    return value


def _date(value: Any, produced_at: datetime, zone: ZoneInfo) -> datetime:
    if not isinstance(value, str):
        _reject(RejectReason.WRONG_TYPE, f"invoice_date is {_json_type(value)}, not a string")
    date = shop_time(value, zone)
    if date is None:
        _reject(RejectReason.BAD_DATE, f"invoice_date = {value!a}")
    _check_not_future(date, produced_at, zone)
    return date


def _check_not_future(date: datetime, produced_at: datetime, zone: ZoneInfo) -> None:
    local = produced_at.astimezone(zone).replace(tzinfo=None)
    if date > local + FUTURE_TOLERANCE:
        _reject(
            RejectReason.FUTURE_DATE,
            f"invoice_date = {date.isoformat()}, record of {local:%Y-%m-%dT%H:%M:%S} shop time",
        )


def _check_amount(lines: list[Line]) -> None:
    amount = sum(abs(line.quantity * cents(line.price)) for line in lines)
    if amount > MAX_AMOUNT_CENTS:
        _reject(
            RejectReason.AMOUNT_OUT_OF_RANGE,
            f"the lines' amounts add up to {amount // 100:,}, at most {MAX_AMOUNT_CENTS // 100:,} is allowed",
        )


def _line(line: Any, at: int, escaped: bool) -> Line:
    where = f"lines[{at}]"
    if not isinstance(line, dict):
        _reject(RejectReason.NOT_AN_OBJECT, f"{where} is {_json_type(line)}")
    try:
        stock_code, description = line["stock_code"], line["description"]
        quantity, price = line["quantity"], line["price"]
    except KeyError as missing:
        raise RejectedError(RejectReason.MISSING_FIELD, f"{where}.{missing.args[0]}") from None
    return Line(
        _text(stock_code, f"{where}.stock_code", MAX_ID_CHARACTERS, escaped),
        _text(description, f"{where}.description", MAX_DESCRIPTION_CHARACTERS, escaped, shortest=0),
        _quantity(quantity, where),
        _price(price, where),
    )


def _quantity(value: Any, where: str) -> int:
    # JSON has one kind of number: 6.0 is the integer 6, as in JSON Schema.
    if type(value) is float and math.isinf(value):  # 1e999
        _reject(RejectReason.BAD_NUMBER, f"{where}.quantity is out of range")
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is float:
        _reject(RejectReason.BAD_NUMBER, f"{where}.quantity = {value!r} is not whole")
    if type(value) is not int:
        _reject(RejectReason.WRONG_TYPE, f"{where}.quantity is {_json_type(value)}, not a number")
    if not -MAX_QUANTITY - 1 <= value <= MAX_QUANTITY:
        _reject(RejectReason.BAD_NUMBER, f"{where}.quantity is out of range")
    return int(value)


def _price(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _reject(RejectReason.WRONG_TYPE, f"{where}.price is {_json_type(value)}, not a decimal string")
    if PRICE.fullmatch(value) is None:
        if _NOT_FINITE.fullmatch(value):
            _reject(RejectReason.NOT_FINITE, f"{where}.price = {value!r}")
        if _FINE_PRICE.fullmatch(value):
            _reject(RejectReason.PRICE_SCALE, f"{where}.price = {value!r}")
        _reject(RejectReason.BAD_NUMBER, f"{where}.price = {value!a}")
    return value


def parse_records(records: pa.RecordBatch, zone: ZoneInfo, max_bytes: int) -> pa.RecordBatch:
    """Parse a batch of Kafka records (columns value, partition, offset, timestamp) into PARSED_SCHEMA.

    One row per record, in order. A valid one has its invoice and no reason; a rejected one has reason, detail and its
    raw bytes, and no invoice. A record that fails in an unforeseen way is rejected like any other, and the rest
    continues. A record timestamp out of range is moved to the nearest valid one.
    """
    invoices: list[Invoice | None] = []
    rejections: list[RejectedError | None] = []
    values = records.column("value").to_pylist()
    produced_at, bad_timestamps = _timestamps(records.column("timestamp"))
    surely_past = _surely_past(produced_at)
    for at, value in enumerate(values):
        try:
            if at in bad_timestamps:
                raise bad_timestamps[at]
            invoice = parse_plain(value, zone) if value is not None and len(value) <= max_bytes else None
            if invoice is None:
                invoice = parse_invoice(value, produced_at[at].as_py(), zone, max_bytes)
            elif invoice.invoice_date > surely_past:
                _check_not_future(invoice.invoice_date, produced_at[at].as_py(), zone)
            invoices.append(invoice)
            rejections.append(None)
        except RejectedError as rejection:
            invoices.append(None)
            rejections.append(rejection)
        except Exception as error:
            invoices.append(None)
            rejections.append(RejectedError.unforeseen(error))
    kept = pa.RecordBatch.from_arrays(
        [records.column("partition"), records.column("offset"), produced_at, records.column("value")],
        names=["partition", "offset", "kafka_timestamp", "value"],
    )
    try:
        return _rows(kept, invoices, rejections)
    except Exception:  # one by one, to find the record whose values fit no column
        for at in range(len(values)):
            try:
                _rows(kept.slice(at, 1), invoices[at : at + 1], rejections[at : at + 1])
            except Exception as error:
                invoices[at], rejections[at] = None, RejectedError.unforeseen(error)
        return _rows(kept, invoices, rejections)


def _timestamps(found: pa.Array) -> tuple[pa.Array, dict[int, RejectedError]]:
    """Record timestamps as they can be stored, and, by row, the rejections of those that could not be stored as they
    were."""
    found = found.cast(pa.timestamp("us", "UTC"))
    first, last = (pa.scalar(moment, found.type) for moment in (FIRST_TIMESTAMP, LAST_TIMESTAMP))
    is_good = pc.fill_null(pc.and_(pc.greater_equal(found, first), pc.less_equal(found, last)), False)
    if pc.all(is_good).as_py() is not False:
        return found, {}
    is_late = pc.fill_null(pc.greater(found, last), False)
    stored = pc.if_else(is_good, found, pc.if_else(is_late, last, first))
    bad = pc.indices_nonzero(pc.invert(is_good)).to_pylist()
    return stored, {at: _bad_timestamp(found[at], stored[at]) for at in bad}


def _bad_timestamp(found: pa.Scalar, stored: pa.Scalar) -> RejectedError:
    detail = (
        f"the record's Kafka timestamp is {_in_words(found.value)}; stored here as {stored.as_py():%Y-%m-%dT%H:%M:%SZ}"
    )
    return RejectedError(RejectReason.BAD_TIMESTAMP, detail)


def _in_words(microseconds: int | None) -> str:
    if microseconds in (None, -1000):  # Kafka says -1 for none
        return "none"
    milliseconds = microseconds // 1000
    beyond = {FARTHEST_MILLISECONDS: " or later", -FARTHEST_MILLISECONDS: " or earlier"}
    return f"{milliseconds} ms{beyond.get(milliseconds, '')}"


def _rows(
    records: pa.RecordBatch, invoices: list[Invoice | None], rejections: list[RejectedError | None]
) -> pa.RecordBatch:
    """Records (partition, offset, kafka_timestamp, value) and what was read of each, in PARSED_SCHEMA."""
    is_rejected = pa.array([rejection is not None for rejection in rejections], pa.bool_())
    return pa.RecordBatch.from_arrays(
        [
            records.column("partition"),
            records.column("offset"),
            records.column("kafka_timestamp"),
            *(_column(name, invoices) for name in Invoice.__struct_fields__),
            pa.array([r and r.reason.value for r in rejections], pa.string()),
            pa.array([r and r.detail for r in rejections], pa.string()),
            pc.if_else(is_rejected, records.column("value"), pa.scalar(None, pa.binary())),
        ],
        schema=PARSED_SCHEMA,
    )


def rejected(parsed: pa.RecordBatch, raw: pa.Array, error: Exception) -> pa.RecordBatch:
    """Valid parsed records as rejected ones: something failed on them after they were parsed. `raw`: their values."""
    kept = pa.RecordBatch.from_arrays(
        [*(parsed.column(name) for name in ("partition", "offset", "kafka_timestamp")), raw],
        names=["partition", "offset", "kafka_timestamp", "value"],
    )
    return _rows(kept, [None] * len(kept), [RejectedError.unforeseen(error)] * len(kept))


def _surely_past(produced_at: pa.Array) -> datetime:
    """A shop-local time that is not in the future, in any zone, for any of these records."""
    oldest = pc.min(produced_at).as_py()
    if oldest is None:
        return datetime.min
    return oldest.astimezone(UTC).replace(tzinfo=None) - _FARTHEST_BEHIND_UTC + FUTURE_TOLERANCE


def _column(name: str, invoices: list[Invoice | None]) -> pa.Array:
    if name == "lines":
        return _lines_array(invoices)
    return pa.array([i and getattr(i, name) for i in invoices], PARSED_SCHEMA.field(name).type)


def _lines_array(invoices: list[Invoice | None]) -> pa.ListArray:
    offsets: list[int | None] = []
    lines: list[Line] = []
    for invoice in invoices:
        offsets.append(None if invoice is None else len(lines))
        if invoice is not None:
            lines.extend(invoice.lines)
    offsets.append(len(lines))
    lines_type = PARSED_SCHEMA.field("lines").type
    fields = [
        pa.array([line.stock_code for line in lines], pa.string()),
        pa.array([line.description for line in lines], pa.string()),
        pa.array([line.quantity for line in lines], pa.int32()),
        pa.array([line.price for line in lines], pa.string()).cast(pa.decimal128(18, 2)),
    ]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.StructArray.from_arrays(fields, fields=list(lines_type.value_type)),
        type=lines_type,
    )
