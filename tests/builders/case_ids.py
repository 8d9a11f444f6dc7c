"""What a parametrised case is called: its values in words, where pytest would number them (`events0`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

_LONGEST = 60


def case_id(value: object) -> str | None:
    """For pytest_make_parametrize_id; None: pytest's own name is good, or nothing of it can be told."""
    if (words := _words(value)) is None:
        return None
    words = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words) or "nothing"
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _words(value: Any) -> str | None:
    match value:
        case Enum() | type() | re.Pattern():
            return None
        case bytes():
            return value.decode("ascii", "backslashreplace")
        case str() | date() | timedelta() | Decimal() | Path():
            return str(value)
        case Mapping():
            return ", ".join(f"{key}={_inner(one)}" for key, one in value.items())
        case Set():  # each worker of a run must name it alike
            return ", ".join(sorted(map(_inner, value)))
        case Collection():
            return ", ".join(map(_inner, value))
        case BaseException():
            return f"{type(value).__name__}: {value}".removesuffix(": ")
        case partial():
            return f"{value.func.__name__} {_inner(value.args)} {_inner(value.keywords)}".strip()
        case _ if is_dataclass(value):
            return _inner(
                {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
            )
    shown = repr(value)
    return None if " at 0x" in shown else shown.strip("<>")


def _inner(value: object) -> str:
    words = _words(value)
    return getattr(value, "__name__", None) or str(value) if words is None else words
