"""What every contender must end with: the customers that DuckDB recomputes from what was sent, compared to the cent."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from bench.peers.invoice import purchase
from conf.kafka import Brokers
from demo.recompute import compare, recompute
from topic.consume import consume_range
from topic.describe import describe_topic

_BROKER_SECONDS = 60
_ALL_BYTES = 2**40


def expected_of_topic(bootstrap: str, topic: str) -> pd.DataFrame:
    """The customers after all records of a topic; one row a customer, indexed by customer_id (demo.recompute)."""
    lines = pd.json_normalize(_events(bootstrap, topic), "lines", ["invoice", "invoice_date", "customer_id"])
    return recompute(lines.astype({"quantity": str}).fillna({"customer_id": ""}))


def purchases_of_topic(bootstrap: str, topic: str) -> int:
    """How many invoices on a topic count for a customer, in plain Python."""
    return sum(purchase(event) is not None for event in _events(bootstrap, topic))


def _events(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    brokers = Brokers(bootstrap, _BROKER_SECONDS)
    found = describe_topic(brokers, topic)
    everything = {p: (first, found.end_offsets[p]) for p, first in found.first_offsets.items()}
    records, _ = consume_range(brokers, topic, everything, _ALL_BYTES)
    return [json.loads(value) for value in records["value"].to_pylist()]


def wrong(found: pd.DataFrame, expected: pd.DataFrame) -> str | None:
    """None if all customers are equal in every column, to the cent; else what is not, and the first of it."""
    compared = compare(found, expected)
    if compared.equal:
        return None
    first = compared.different.iloc[0].to_dict() if len(compared.different) else ""
    return (
        f"{len(compared.missing):,} customers missing, {len(compared.unexpected):,} too many, "
        f"{len(compared.different):,} values differ {first}".strip()
    )
