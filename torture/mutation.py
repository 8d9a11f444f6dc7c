"""Mutation: a valid event, changed in some places. Seeded; does not know whether the result is valid."""

from __future__ import annotations

import json
import random
from typing import Any

_TEXTS: tuple[Any, ...] = (
    *("", " ", "0", "x" * 65, "\x00", "\ud800", "\udc00\ud800", "\ufeff", "🧺", "٣", "\x7f", "\u2028"),
    *(None, 7, 1.5, True, [], {}),
)
_VERSIONS = (1, 1.0, 1e0, 2, 0, -1, "1", True, None, 10**30, 1.0000000001, [1], {"v": 1})
_QUANTITIES = (0, -0.0, 6.0, 6.5, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 10**400, 1e300, "6", None, True, [6])
_PRICES = (
    *("0", "-0", "-0.01", "1", "1.", ".5", "1.5", "1.50", "1.505", "1e3", "1,5", " 1", "NaN", "Infinity", "-11062.06"),
    *("٢", "", "9999999999999999.99", "99999999999999999", "0000000000000001.00", "465661.29", "1000000000000000"),
    *(1, 1.5, None, True),
)
_SPLICES = (
    *(b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"0", b"-", b".", b"e5", b"E400", b"1" * 30, b"null", b"true"),
    *(b"NaN", b"\x00", b"\x0b", b"\x7f", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf"),
    *(b"\\u0000", b"\\ud83e", b"\\u0041", b'"version":1,', b'"price":"1",', b'"x":1,', b"[" * 2000),
    *(b" ", b"\n", b"Z", b"+07:00", b".5"),
)


def mutated(rng: random.Random, event: dict[str, Any]) -> bytes | None:
    """The bytes of a changed event: nearly always its date, then fields, then bytes, each to some extent."""
    changed = event | {"invoice_date": _date(rng)} if rng.random() < 0.6 else dict(event)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        changed = _field_changed(rng, changed)
    value = _written(rng, changed)
    for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 1, 2))):
        value = mutated_bytes(rng, value)
    return None if rng.random() < 0.001 else value


def mutated_bytes(rng: random.Random, value: bytes) -> bytes:
    """One place of the bytes changed."""
    at = rng.randrange(len(value) + 1)
    length = rng.choice((1, 1, 1, 2, 5, 30))
    match rng.randrange(7):
        case 0:
            return value[:at] + rng.choice(_SPLICES) + value[at:]
        case 1:
            return value[:at] + rng.choice(_SPLICES) + value[at + length :]
        case 2:
            return value[:at] + value[at + length :]
        case 3:
            return value[:at] + value[at : at + length] + value[at:]
        case 4:
            return value[:at] + rng.randbytes(1) + value[at + 1 :]
        case 5:
            return value[:at] + b"%d" % rng.randrange(10) + value[at + 1 :]
        case _:
            return value[:at] if rng.random() < 0.2 else value + rng.choice(_SPLICES)


def _field_changed(rng: random.Random, event: dict[str, Any]) -> dict[str, Any]:
    fields = ("version", "invoice", "invoice_date", "customer_id", "lines", "line", "line", "line", "drop", "add")
    lines, number = event.get("lines"), event.get("invoice")
    match rng.choice(fields):
        case "drop":
            return _without_one(rng, event)
        case "add":
            return event | {rng.choice(("extra", "Version", "lines ", "é", "\x00")): rng.choice(_TEXTS)}
        case "version":
            return event | {"version": rng.choice(_VERSIONS)}
        case "invoice":  # its own number in it still: another invoice's number would be another's copy
            numbers = (f"C{number}", f"{number}é", f" {number}", f"{number}" * 5, "", None, 7)
            return event | {"invoice": rng.choice(numbers)}
        case "invoice_date":
            return event | {"invoice_date": rng.choice((_date(rng), *_TEXTS))}
        case "customer_id":
            return event | {"customer_id": rng.choice(_TEXTS)}
        case "lines" if isinstance(lines, list):
            return event | {"lines": rng.choice(([], {}, None, "x", lines * 2, lines * 40, [*lines, 1], lines[::-1]))}
        case "line" if isinstance(lines, list) and lines and isinstance(lines[0], dict):
            return event | {"lines": [_line_changed(rng, lines[0]), *lines[1:]]}
        case _:
            return event


def _line_changed(rng: random.Random, line: dict[str, Any]) -> dict[str, Any]:
    match rng.randrange(6):
        case 0:
            return line | {"stock_code": rng.choice(_TEXTS)}
        case 1:
            return line | {"description": rng.choice((*_TEXTS, "x" * 1000, "x" * 1001))}
        case 2:
            return _without_one(rng, line)
        case 3:
            return line | {"quantity": rng.choice(_QUANTITIES), "price": rng.choice(_PRICES)}
        case 4:
            return line | {"quantity": rng.choice((rng.randint(-(2**31), 2**31 - 1), *_QUANTITIES))}
        case _:
            return line | {"price": rng.choice((f"{rng.randint(-9, 10**9)}.{rng.randint(0, 99):02}", *_PRICES))}


def _without_one(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    dropped = rng.choice(list(fields) or [""])
    return {name: value for name, value in fields.items() if name != dropped}


def _date(rng: random.Random) -> str:
    """Mostly one that the contract takes, by an offset or a fraction or none."""
    odd = rng.random() < 0.1
    year = rng.choice((1, 1899, 1900, 1945, 2026, 2027, 2099, 2100, 9999)) if odd else rng.choice((2024, 2025))
    month, day = (rng.randint(0, 13), rng.randint(0, 32)) if odd else (rng.randint(1, 12), rng.randint(1, 28))
    hour = rng.choice((0, 23, 24)) if odd else rng.randint(0, 23)
    minute, second = (
        (rng.choice((0, 59, 60)), rng.choice((0, 59, 60))) if odd else (rng.randint(0, 59), rng.randint(0, 59))
    )
    fractions = ("", "", ".5", f".{rng.randrange(10**6):06}", ".123456000", ".000000", *((".1234567", ".") * odd))
    offsets = ("", "", "Z", "+07:00", "-00:00", "+14:00", "-12:00", "+05:45")
    odd_offsets = ("+25:00", "+0700", "z", "+24:00", "+07:60") * odd
    fraction, offset = rng.choice(fractions), rng.choice(offsets + odd_offsets)
    between = rng.choice("T ") if odd else "T"
    return f"{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{offset}"


def _written(rng: random.Random, event: dict[str, Any]) -> bytes:
    keys = list(event)
    if rng.random() < 0.3:
        rng.shuffle(keys)
    text = json.dumps(
        {key: event[key] for key in keys},
        ensure_ascii=rng.random() < 0.5,
        indent=rng.choice((None, None, None, 1)),
        separators=rng.choice((None, (",", ":"))),
    )
    return text.encode("utf-8", "surrogatepass")
