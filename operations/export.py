"""Export: everything that mart and lake store about one customer."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from deltalake import DeltaTable
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from conf.errors import StreamingError
from conf.settings import Settings
from lake.table import ask, find_lake
from mart.erasure_list import possible_customers
from mart.session import session
from sql import statement

_RAW_AT_ONCE = 100
_QUARANTINED = (
    *("topic", "partition", "offset", "kafka_timestamp", "reason", "detail", "raw", "rejected_at", "outcome"),
    "settled_at",
)


def export(settings: Settings, customer: str) -> dict[str, Any]:
    """What is stored about a customer: the mart's row with scores and segment, invoices, the sums of pruned ones,
    moves, the quarantined records that contain the id, and the lake's invoices with their lines, one row per copy
    (null: no lake).

    The mart is read as MART_DSN, as of one moment. Raises StreamingError if nothing is stored.
    """
    with session(settings.require_mart(), "retail-mart export") as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            customers = _records(cursor, "export/customer", customer)
            found: dict[str, Any] = {
                "customer_id": customer,
                "exported_at": datetime.now(UTC),
                "scores": customers[0] if customers else None,
                "invoices": _records(cursor, "export/invoices", customer),
                "carried": next(iter(_records(cursor, "export/carried", customer)), None),
                "moves": _records(cursor, "export/moves", customer),
            }
        with connection.cursor("quarantine") as values:  # on the server: it may be large
            values.itersize = _RAW_AT_ONCE
            values.execute(statement("export/quarantined"))
            found["quarantined"] = [
                dict(zip(_QUARANTINED, row, strict=True)) for row in values if _mentions(customer, row)
            ]
    table = find_lake(settings.lake)
    found["lake"] = None if table is None else landed(table, customer)
    if not any(found[part] for part in ("scores", "invoices", "carried", "moves", "quarantined")) and not (
        found["lake"] and found["lake"]["invoices"]
    ):
        raise StreamingError(f"nothing is stored about customer {customer!r}")
    return found


def landed(table: DeltaTable, customer: str) -> dict[str, Any]:
    """The lake's version, and its rows of a customer, oldest invoice first. Raises UnavailableError, StreamingError."""
    rows = ask(table, statement("export/landed"), customer)
    return {"version": table.version(), "invoices": rows.to_pylist()}


def to_json(found: dict[str, Any]) -> str:
    """Money as text with its decimals, times in ISO 8601, raw values as text, or as base64 if they are not text."""
    return json.dumps(found, default=_plain, ensure_ascii=False, indent=2)


def _mentions(customer: str, quarantined: tuple[Any, ...]) -> bool:
    return customer in possible_customers(bytes(quarantined[_QUARANTINED.index("raw")]))


def _records(cursor: Cursor, name: str, customer: str) -> list[dict[str, Any]]:
    cursor.execute(statement(name), {"customer": customer})
    columns = [column.name for column in cursor.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, memoryview | bytes):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    raise TypeError(f"no JSON for a {type(value).__name__}")
