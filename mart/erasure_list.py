"""The erasure list: the customers whose invoices, resent or new, are stored without the customer.

The mart has the list (mart.erased_customer) as salted digests. The lake has a copy in its own log, so that landing does
not need the mart: a change of the list conflicts with every append prepared before it, which then looks again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import one_row, statement

NO_CONTENT = "00" * 32
"""In place of the digest of an erased customer's invoice: it was of the id, too, and could be tried out."""

_FIELDS_OF_OTHERS = {"version", "invoice", "invoice_date", "stock_code", "description", "quantity", "price"}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"\w[\w.@+-]*")


@dataclass(frozen=True)
class ErasureList:
    """Salt and hexadecimal digests. `ids`: the customers' ids if they are known, so that nobody else's is hashed."""

    salt: str
    digests: frozenset[str] = frozenset()
    ids: frozenset[str] | None = field(default=None, compare=False, repr=False)

    def digest(self, customer: str) -> str:
        """SHA-256 of salt and id, computed as the SQL and the lake's update do."""
        return hashlib.sha256((self.salt + customer).encode()).hexdigest()

    def of_one(self, customer: str) -> ErasureList:
        """A list with the same salt, of this customer alone."""
        return ErasureList(self.salt, frozenset({self.digest(customer)}), frozenset({customer}))

    def names(self, customer: str) -> bool:
        """Whether the customer was erased."""
        if self.ids is not None:
            return customer in self.ids
        return bool(self.digests) and self.digest(customer) in self.digests

    def is_mentioned(self, raw: bytes | None) -> bool:
        """Whether the value of a record that could not be applied contains the id of an erased customer."""
        return bool(self.digests) and raw is not None and any(self.names(text) for text in possible_customers(raw))

    def forget_in(self, rows: pa.Table) -> pa.Table:
        """The rows (with the columns customer_id and content_sha256), with both removed if the customer was erased."""
        if not self.digests:
            return rows
        is_erased = self.named_in(rows["customer_id"])
        if not pc.any(is_erased).as_py():
            return rows
        for column, value in (("customer_id", None), ("content_sha256", NO_CONTENT)):
            new = pc.if_else(is_erased, pa.scalar(value, pa.string()), rows[column])
            rows = rows.set_column(rows.schema.get_field_index(column), column, new)
        return rows

    def named_in(self, customers: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """For each value, whether the customer was erased."""
        ids = self.ids
        if ids is None:
            ids = frozenset(filter(self.names, pc.unique(customers).drop_null().to_pylist()))
        return pc.is_in(customers, value_set=pa.array(ids, pa.string()))


def possible_customers(raw: bytes) -> Iterator[str]:
    """Every text in a record's value that may be a customer's id.

    In a JSON document: all texts and numbers except those of the contract's other fields (a stock code may look like a
    customer's id), and numbers also as integers. In anything else: every quoted text and every word.
    """
    try:
        document = json.loads(raw, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        text = raw.decode("utf-8", errors="replace")
        yield from map(_unescaped, _QUOTED.findall(text))
        yield from _WORD.findall(text)
        return
    for text in _texts(document):
        yield text
        if text.endswith(".0"):
            yield text[:-2]


class _Pairs(list[tuple[str, Any]]):
    """An object's keys and values, including duplicate keys."""


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, _Pairs):
        for key, value in found:
            if key not in _FIELDS_OF_OTHERS:
                yield from _texts(value)
    elif isinstance(found, list):
        for value in found:
            yield from _texts(value)
    elif isinstance(found, str):
        yield found


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def has_list(cursor: Cursor) -> bool:
    """Whether the database has a mart that can hold a list."""
    cursor.execute(statement("erase/has_list"))
    return bool(one_row(cursor)[0])


def read_list(cursor: Cursor) -> ErasureList:
    """The mart's list."""
    cursor.execute(statement("erase/select_list"))
    salt, digests = one_row(cursor)
    return ErasureList(salt, frozenset(digests))
