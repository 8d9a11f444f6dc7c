"""Check: compare the mart and the lake, as they are, with the oracle. Each difference is one line of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import duckdb
import psycopg2
from deltalake import DeltaTable

from sql import statement
from torture.oracle import Customer, Expected, Invoice

_SHOWN = 3
_COUNTS = "records, invoices, duplicates, rejected"


def differences(
    owner_dsn: str,
    lake: str,
    expected: Expected,
    end_offsets: Mapping[int, int],
    times_read: int | None = 1,
) -> list[str]:
    """Everything in which the mart or the lake is not as expected; an empty list means success.

    `end_offsets`: of the topic, per partition. `times_read`: how often the whole topic was applied since the mart was
    empty; None: unknown (the batches' counts and the lake's rows are then not compared with the number of records).
    """
    with closing(psycopg2.connect(owner_dsn)) as connection, connection, connection.cursor() as cursor:

        def rows(name: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement(f"torture/{name}"))
            return cursor.fetchall()

        found = [
            *_compare("invoice", expected.invoices, {row[0]: Invoice(*row[1:]) for row in rows("invoices")}),
            *_compare("customer", expected.customers, {row[0]: Customer(*row[1:]) for row in rows("customers")}),
            *_compare("quarantined record", expected.rejected, _reasons(rows("rejected"), expected)),
            *_compare("next offset of partition", end_offsets, dict(rows("next_offsets"))),
            *_compare(
                "customers in segment",
                Counter(customer.segment for customer in expected.customers.values()),
                dict(rows("segments")),
            ),
        ]
        [batches] = rows("batches")
    if times_read is not None:
        again = (times_read - 1) * (expected.records - len(expected.rejected))
        # A record that is quarantined is counted as rejected each time that it is read.
        should = (
            expected.records * times_read,
            len(expected.invoices),
            expected.duplicates + again,
            len(expected.rejected) * times_read,
        )
        found += _compare("batches' sum of", {_COUNTS: should}, {_COUNTS: batches})
        copies = {"rows": DeltaTable(lake).to_pyarrow_dataset().count_rows()}
        found += _compare("lake's number of", {"rows": len(expected.landed) * times_read}, copies)
    found += _compare("landed record", expected.landed, landed(lake))
    return found


def _reasons(rows: Iterable[tuple[int, int, str]], expected: Expected) -> dict[tuple[int, int], str | None]:
    """(partition, offset) → the reason found; None where any but internal_error may be: the pipeline must know what it
    refuses."""
    found = {(partition, offset): reason for partition, offset, reason in rows}
    any_may_be = {at for at, reason in expected.rejected.items() if reason is None}
    return {at: None if at in any_may_be and reason != "internal_error" else reason for at, reason in found.items()}


def landed(lake: str) -> dict[tuple[int, int], Any]:
    """(partition, offset) → invoice number and cents of each record in the lake; a record that is there twice has
    `twice`.

    A rewind lands the topic's records again, so the same coordinates with the same content count as one.
    """
    with duckdb.connect() as engine:
        engine.register("lake", DeltaTable(lake).to_pyarrow_dataset())
        engine.execute(statement("torture/landed"))
        return {(p, o): (i, cents) for p, o, i, cents in engine.fetchall()}


def _compare(what: str, should: Mapping[Any, Any], found: Mapping[Any, Any]) -> Iterator[str]:
    missing, surplus = sorted(should.keys() - found.keys()), sorted(found.keys() - should.keys())
    other = sorted(key for key in should.keys() & found.keys() if should[key] != found[key])
    for name, keys in (("missing", missing), ("too many", surplus), ("differs", other)):
        if keys:
            examples = "; ".join(f"{key}: {found.get(key)}, not {should.get(key)}" for key in keys[:_SHOWN])
            yield f"{what} {name}: {len(keys)} ({examples})"
