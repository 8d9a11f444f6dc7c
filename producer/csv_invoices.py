"""Read daily CSV files into whole invoices, and say which lines could not be read and why.

Three dialects are known by their header: this project's own files, UCI Online Retail and Online Retail II.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from conf.counted import counted
from conf.errors import UsageError

# Names are compared in lower case, without spaces. Other columns (UCI's Country) are passed over.
_COLUMNS = {
    "invoice": ("invoice", "invoiceno"),
    "stock_code": ("stockcode",),
    "description": ("description",),
    "quantity": ("quantity",),
    "invoice_date": ("invoicedate",),
    "price": ("price", "unitprice"),
    "customer_id": ("customerid",),
}
SUFFIXES = (".csv", ".csv.gz")

# The limits of conf/invoice_event.schema.json.
MAX_CODE = 64
MAX_DESCRIPTION = 1_000
FIRST_YEAR, LAST_YEAR = 1900, 2099
_QUANTITY = re.compile(r"[+-]?[0-9]{1,10}")
_PRICE = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,2})?")
_FINE_PRICE = re.compile(r"-?[0-9]{1,16}\.[0-9]{3,}")
_FLOAT_CUSTOMER = re.compile(r"([0-9]+)\.0+")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_US_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) ([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")

_LONGEST_RECORD = 20  # lines; a quote that stays open for longer was never meant to open


class HeaderError(UsageError, ValueError):
    """A file is not of a known dialect; the message names the file and the missing columns."""


class LineError(ValueError):
    """A line that cannot be sent; the message is its reason."""


class Line(NamedTuple):
    stock_code: str
    description: str
    quantity: int
    price: str
    """A decimal number, exactly as in the file."""


@dataclass(slots=True)
class Invoice:
    """One invoice of one file: the lines in the order of the file, the earliest of their dates."""

    number: str
    date: datetime
    customer_id: str | None
    lines: list[Line]
    first_line: int
    """Where it begins in its file, 1 is the header."""


class Reject(NamedTuple):
    file: str
    line: int
    """Line number in the file, 1 is the header; 0 is the file as a whole."""
    reason: str
    raw: str


def csv_files(paths: Sequence[Path]) -> list[Path]:
    """The files that the paths stand for: a folder's .csv and .csv.gz files by name, a file as it is.

    Raises FileNotFoundError naming a path that is absent, or a folder without such files.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.name.endswith(SUFFIXES) and f.is_file())
            if not inside:
                raise FileNotFoundError(f"{path}: no .csv or .csv.gz file in this folder")
            files.extend(inside)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return files


def read_invoices(path: Path) -> tuple[list[Invoice], list[Reject]]:
    """The invoices of a file in the order of their first lines, and the lines that could not be read.

    A file that cannot be read at all (broken gzip) is one reject of line 0. Raises HeaderError.
    """
    try:
        text = _text(path)
    except (OSError, EOFError, zlib.error) as error:
        return [], [Reject(str(path), 0, f"file cannot be read: {error}", "")]
    return parse_invoices(text, str(path))


def check_header(path: Path) -> None:
    """Raise HeaderError if the file is of no known dialect; one that cannot be read at all is for later."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            first = file.readline()
    except (OSError, EOFError, zlib.error):
        return
    if first.strip():
        _layout(_decoded(first), str(path))


def parse_invoices(text: str, file: str) -> tuple[list[Invoice], list[Reject]]:
    """As read_invoices, of a file's text; `file` is its name in rejects and errors."""
    rejects: list[Reject] = []
    invoices: dict[str, Invoice] = {}
    records = _records(text, file, rejects)
    header = next(records, None)
    if header is None:
        return [], [Reject(file, 0, "the file is empty", "")]
    width, at = _layout(header[1], file)
    at_number, at_code, at_text, at_quantity, at_date, at_price, at_customer = at

    for line_number, raw, fields in records:
        try:
            if len(fields) != width:
                raise LineError(f"{counted(len(fields), 'column')} instead of {width}")
            number = _number(fields[at_number])
            date = _date(fields[at_date])
            customer_id = _customer(fields[at_customer])
            line = _line(fields[at_code], fields[at_text], fields[at_quantity], fields[at_price])
            invoice = invoices.get(number)
            if invoice is None:
                invoices[number] = Invoice(number, date, customer_id, [line], line_number)
                continue
            if invoice.customer_id != customer_id and customer_id is not None:
                if invoice.customer_id is not None:
                    raise LineError(f"customer {customer_id!r}, but the invoice began with {invoice.customer_id!r}")
                invoice.customer_id = customer_id
            if date < invoice.date:
                invoice.date = date
            invoice.lines.append(line)
        except LineError as error:
            rejects.append(Reject(file, line_number, str(error), raw))
    return list(invoices.values()), sorted(rejects)


def _text(path: Path) -> str:
    content = path.read_bytes()
    return _decoded(gzip.decompress(content) if path.name.endswith(".gz") else content)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _records(text: str, file: str, rejects: list[Reject]) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, raw text and fields of each record that is not blank.

    Split by hand where no field begins with a quote, which is nearly always; and a quote that is never closed
    costs its own line, not the rest of the file.
    """
    lines = text.split("\n")
    width = None
    i = 0
    while i < len(lines):
        raw, number, i = lines[i].removesuffix("\r"), i + 1, i + 1
        if not raw or raw.isspace():
            continue
        if '"' not in raw or not (raw.startswith('"') or ',"' in raw):
            fields = raw.split(",")
        else:
            try:
                fields, taken = _quoted(lines[i - 1 : i - 1 + _LONGEST_RECORD], width)
            except csv.Error as error:
                rejects.append(Reject(file, number, f"a broken quote: {error}", raw))
                continue
            raw = "\n".join(lines[i - 1 : i - 1 + taken]).removesuffix("\r")
            i += taken - 1
        width = width or len(fields)
        yield number, raw, fields


def _quoted(lines: list[str], width: int | None) -> tuple[list[str], int]:
    """The fields of the record that begins in the first line, and the number of lines that it takes.

    Raises csv.Error if no number of lines makes a record (of `width` columns, if it takes several).
    """
    for taken in range(1, len(lines) + 1):
        whole = "\n".join(lines[:taken]).removesuffix("\r")
        try:
            (fields,) = csv.reader([whole], strict=True)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                continue
            raise
        if taken > 1 and width is not None and len(fields) != width:
            break
        return fields, taken
    raise csv.Error("it is never closed")


def _layout(header: str, file: str) -> tuple[int, list[int]]:
    """The number of columns and where those of _COLUMNS are, in that order."""
    names = [re.sub(r"[\s_]", "", name).lower() for name in next(csv.reader([header.removesuffix("\n")]), [])]
    positions = {
        column: next((names.index(a) for a in aliases if a in names), -1) for column, aliases in _COLUMNS.items()
    }
    missing = [" or ".join(_COLUMNS[column]) for column, i in positions.items() if i < 0]
    if missing:
        raise HeaderError(
            f"{file}: the header lacks the columns {', '.join(missing)} (it is {header.strip()[:200]!r}); "
            "the file must have those of `generate`, of UCI Online Retail or of Online Retail II"
        )
    return len(names), list(positions.values())


# Days repeat their products, prices, minutes and customers: what was checked once is remembered.


@lru_cache(maxsize=65_536)
def _number(text: str) -> str:
    number = text.strip()
    if not number:
        raise LineError("the invoice number is empty")
    if len(number) > MAX_CODE:
        raise LineError(f"the invoice number is longer than {MAX_CODE} characters")
    if "\0" in number:
        raise LineError("a NUL character in the invoice number")
    return number


@lru_cache(maxsize=65_536)
def _line(stock_code: str, description: str, quantity: str, price: str) -> Line:
    if not stock_code:
        raise LineError("the stock code is empty")
    if len(stock_code) > MAX_CODE:
        raise LineError(f"the stock code is longer than {MAX_CODE} characters")
    if len(description) > MAX_DESCRIPTION:
        raise LineError(f"the description is longer than {MAX_DESCRIPTION} characters")
    if "\0" in stock_code or "\0" in description:
        raise LineError("a NUL character in the stock code or description")
    quantity, price = quantity.strip(), price.strip()
    if not _QUANTITY.fullmatch(quantity):
        raise LineError(f"quantity {quantity!r} is not a whole number")
    pieces = int(quantity)
    if not -(2**31) <= pieces < 2**31:
        raise LineError(f"quantity {quantity} does not fit into 32 bits")
    if not _PRICE.fullmatch(price):
        if _FINE_PRICE.fullmatch(price):
            raise LineError(f"price {price} has more than 2 decimals")
        raise LineError(f"price {price!r} is not a decimal number of at most 16 digits and 2 decimals")
    return Line(stock_code, description, pieces, price)


@lru_cache(maxsize=65_536)
def _date(text: str) -> datetime:
    text = text.strip()
    if match := _ISO_DATE.fullmatch(text):
        year, month, day, hour, minute, second = match.groups(default="0")
    elif match := _US_DATE.fullmatch(text):
        month, day, year, hour, minute, second = match.groups(default="0")
    else:
        raise LineError(f"date {text!r} is neither YYYY-MM-DD HH:MM:SS nor m/d/YYYY H:MM")
    if not FIRST_YEAR <= int(year) <= LAST_YEAR:
        raise LineError(f"date {text!r}: the year is not in {FIRST_YEAR}..{LAST_YEAR}")
    try:
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError as error:
        raise LineError(f"date {text!r}: {error}") from None


@lru_cache(maxsize=65_536)
def _customer(text: str) -> str | None:
    text = text.strip()
    if len(text) > MAX_CODE:
        raise LineError(f"the customer id is longer than {MAX_CODE} characters")
    if match := _FLOAT_CUSTOMER.fullmatch(text):
        text = match[1]
    if "\0" in text:
        raise LineError("a NUL character in the customer id")
    return text or None
