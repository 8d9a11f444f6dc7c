"""Cards for Metabase's tests, and what of them a Metabase has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dashboards.cards import Card

READER = {"host": "10.0.0.5", "port": 5433, "user": "analytics_reader", "password": "sec/ret", "dbname": "mart"}
EMAIL = "admin@mart.example"


def card(name: str, chart: str = "bar", columns: str = "customer_segment text, customers bigint", **more: Any) -> Card:
    """A card as read from a file; `columns` as in its header."""
    parsed = tuple((column.split()[0], " ".join(column.split()[1:])) for column in columns.split(", "))
    known = {"title": name.capitalize(), "description": "One row a thing.", "sql": f"SELECT * FROM mart.{name}"}
    return Card(**{"name": name, "chart": chart, "columns": parsed, "refresh_seconds": 1, "units": {}, **known, **more})


def kept_accounts(home: Path) -> dict[str, Any]:
    return json.loads((home / "metabase.json").read_text())


NATIVE, BUILDER = "query-builder-and-native", "query-builder"


def applied(command_line):
    code, output = command_line("apply")
    assert code == 0, output
    return output


def dashboard_of(metabase):
    (found,) = metabase.dashboards.values()
    return found


def numbers(metabase):
    """Ids of our database and of our collection."""
    (database,) = (number for number, one in metabase.databases.items() if one["name"] == "Retail mart")
    (collection,) = metabase.collections
    return database, collection


def ours(metabase):
    return next(one for one in metabase.databases.values() if one["name"] == "Retail mart")
