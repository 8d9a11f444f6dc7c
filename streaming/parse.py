"""Parse: the bytes of one Kafka record into one invoice, or into the reason why not. Runs on the executors.

`parse_invoice` is the strict reader of `conf/invoice_event.schema.json`. It reads JSON itself and not through
Spark's from_json, which silently takes trailing garbage, duplicate keys, NUL and NaN, and rounds 1.255 to 1.26.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import DataFrame

from streaming.reject_reason import RejectReason

MAX_ID_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_QUANTITY = 2**31 - 1
FUTURE_TOLERANCE = timedelta(days=1)
_DATE = re.compile(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
_PRICE = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,2})?", re.ASCII)
_FINE_PRICE = re.compile(r"-?[0-9]{1,16}\.[0-9]{3,}", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE)
_DETAIL_CHARACTERS = 200

PARSED_COLUMNS = (
    "partition INT, offset BIGINT, kafka_timestamp TIMESTAMP, "
    "invoice STRING, invoice_date TIMESTAMP_NTZ, customer_id STRING, "
    "lines ARRAY<STRUCT<stock_code: STRING, description: STRING, quantity: INT, price: DECIMAL(18,2)>>, "
    "content_sha256 STRING, reason STRING, detail STRING, raw BINARY"
)
_LINE_TYPE = pa.struct(
    [
        ("stock_code", pa.string()),
        ("description", pa.string()),
        ("quantity", pa.int32()),
        ("price", pa.decimal128(18, 2)),
    ]
)
_PARSED_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("us", "UTC")),
        ("invoice", pa.string()),
        ("invoice_date", pa.timestamp("us")),
        ("customer_id", pa.string()),
        ("lines", pa.list_(_LINE_TYPE)),
        ("content_sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
    ]
)


class RejectedError(Exception):
    """A record that the contract refuses: the reason, and the field and value that show it."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:_DETAIL_CHARACTERS].replace("\x00", "\\0")


@dataclass(frozen=True, slots=True)
class Line:
    """One invoice line. `price` is the unit price as a decimal string, at most 2 decimals."""

    stock_code: str
    description: str
    quantity: int
    price: str


@dataclass(frozen=True, slots=True)
class Invoice:
    """One valid invoice. `invoice_date` is shop-local without a zone; `content_sha256` is hexadecimal."""

    invoice: str
    invoice_date: datetime
    customer_id: str | None
    lines: tuple[Line, ...]
    content_sha256: str


def parse_invoice(value: bytes | None, produced_at: datetime, zone: ZoneInfo, max_bytes: int = 1_000_000) -> Invoice:
    """Read one record's value as an invoice.

    `produced_at` is the record's timestamp (aware), `zone` the shop's. Raises RejectedError, and nothing else,
    for whatever bytes there may be.
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
        _reject(RejectReason.UNKNOWN_VERSION, f"version = {version!r}, known: 1")
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
    lines = tuple(_line(line, at, escaped) for at, line in enumerate(event["lines"]))
    return Invoice(invoice, invoice_date, customer, lines, _digest(invoice, invoice_date, customer, lines))


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
    if _DATE.fullmatch(value) is None:
        _reject(RejectReason.BAD_DATE, f"invoice_date = {value!a}")
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        raise RejectedError(RejectReason.BAD_DATE, f"invoice_date = {value!r}") from None
    # No zone is more than 14 hours off UTC, so an older date needs no look at the zone.
    if date > produced_at.astimezone(UTC).replace(tzinfo=None):
        local = produced_at.astimezone(zone).replace(tzinfo=None)
        if date > local + FUTURE_TOLERANCE:
            _reject(
                RejectReason.FUTURE_DATE,
                f"invoice_date = {value}, record of {local:%Y-%m-%dT%H:%M:%S} shop time",
            )
    return date


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
    if _PRICE.fullmatch(value) is None:
        if _NOT_FINITE.fullmatch(value):
            _reject(RejectReason.NOT_FINITE, f"{where}.price = {value!r}")
        if _FINE_PRICE.fullmatch(value):
            _reject(RejectReason.PRICE_SCALE, f"{where}.price = {value!r}")
        _reject(RejectReason.BAD_NUMBER, f"{where}.price = {value!a}")
    return value


def _cents(price: str) -> int:
    whole, _, fraction = price.partition(".")
    cents = int(whole.lstrip("-")) * 100 + int(fraction.ljust(2, "0"))
    return -cents if price.startswith("-") else cents


def _digest(invoice: str, date: datetime, customer: str | None, lines: tuple[Line, ...]) -> str:
    """SHA-256 of the content, the same for any order of keys and lines and any way of writing a price."""
    content = [invoice, date.isoformat(), customer]
    sold = sorted([line.stock_code, line.description, line.quantity, _cents(line.price)] for line in lines)
    return hashlib.sha256(json.dumps([content, sold], separators=(",", ":")).encode("ascii")).hexdigest()


def parse_records(records: pa.RecordBatch, zone: ZoneInfo, max_bytes: int) -> pa.RecordBatch:
    """Parse a batch of Kafka records (columns value, partition, offset, timestamp) into PARSED_COLUMNS.

    One row a record, in order. A valid one has its invoice and no reason; a rejected one has reason, detail and
    its raw bytes, and no invoice.
    """
    invoices: list[Invoice | None] = []
    rejections: list[RejectedError | None] = []
    values = records.column("value").to_pylist()
    for value, produced_at in zip(values, records.column("timestamp").to_pylist(), strict=True):
        try:
            invoices.append(parse_invoice(value, produced_at, zone, max_bytes))
            rejections.append(None)
        except RejectedError as rejection:
            invoices.append(None)
            rejections.append(rejection)
    raw = [None if rejection is None else value for value, rejection in zip(values, rejections, strict=True)]
    return pa.RecordBatch.from_arrays(
        [
            records.column("partition"),
            records.column("offset"),
            records.column("timestamp").cast(pa.timestamp("us", "UTC")),
            pa.array([i and i.invoice for i in invoices], pa.string()),
            pa.array([i and i.invoice_date for i in invoices], pa.timestamp("us")),
            pa.array([i and i.customer_id for i in invoices], pa.string()),
            _lines_array(invoices),
            pa.array([i and i.content_sha256 for i in invoices], pa.string()),
            pa.array([r and r.reason.value for r in rejections], pa.string()),
            pa.array([r and r.detail for r in rejections], pa.string()),
            pa.array(raw, pa.binary()),
        ],
        schema=_PARSED_SCHEMA,
    )


def _lines_array(invoices: list[Invoice | None]) -> pa.ListArray:
    offsets: list[int | None] = []
    lines: list[Line] = []
    for invoice in invoices:
        offsets.append(None if invoice is None else len(lines))
        if invoice is not None:
            lines.extend(invoice.lines)
    offsets.append(len(lines))
    fields = [
        pa.array([line.stock_code for line in lines], pa.string()),
        pa.array([line.description for line in lines], pa.string()),
        pa.array([line.quantity for line in lines], pa.int32()),
        pa.array([line.price for line in lines], pa.string()).cast(pa.decimal128(18, 2)),
    ]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.StructArray.from_arrays(fields, fields=list(_LINE_TYPE)),
        type=pa.list_(_LINE_TYPE),
    )


def parse(records: DataFrame, zone_name: str, max_bytes: int, niceness: int = 0) -> DataFrame:
    """Kafka's records (value, partition, offset, timestamp) → PARSED_COLUMNS, one row a record.

    `niceness` is added to the parsing thread's, on Linux: work that may wait does not take the processor from other
    work on the same executors.
    """
    return records.select("value", "partition", "offset", "timestamp").mapInArrow(
        _parser(zone_name, max_bytes, niceness), PARSED_COLUMNS
    )


def _parser(
    zone_name: str, max_bytes: int, niceness: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        zone = ZoneInfo(zone_name)
        if not niceness or sys.platform != "linux":
            for batch in batches:
                yield parse_records(batch, zone, max_bytes)
            return
        # In a thread, which on Linux has a niceness of its own: a worker cannot be made less nice again, and the next
        # task that Spark gives it may be urgent.
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(niceness,)) as thread:
            for batch in batches:
                yield thread.submit(parse_records, batch, zone, max_bytes).result()

    return parse_batches
