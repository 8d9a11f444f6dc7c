"""Check: the mart and the lake, as they stand, against the oracle. Each difference is one line of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import duckdb
import psycopg2
from deltalake import DeltaTable

from sql import statement
from torture.oracle import Expected

_SHOWN = 3
_COUNTS = "records, invoices, duplicates, rejected"


def differences(
    owner_dsn: str,
    lake: str,
    expected: Expected,
    end_offsets: Mapping[int, int],
    times_read: int | None = 1,
) -> list[str]:
    """Everything in which the mart or the lake is not as expected; an empty list is a pass.

    `end_offsets`: of the topic, per partition. `times_read`: how often the whole topic was applied since the mart was
    empty; None: unknown (the batches' counts and the lake's rows are then not held to the number of records).
    """
    with closing(psycopg2.connect(owner_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement("torture/invoices"))
        invoices = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute(statement("torture/customers"))
        customers = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute(statement("torture/rejected"))
        rejected = {
            (partition, offset): _reason(reason, expected.rejected.get((partition, offset), reason))
            for partition, offset, reason in cursor.fetchall()
        }
        cursor.execute(statement("torture/positions"))
        positions = dict(cursor.fetchall())
        cursor.execute(statement("torture/batches"))
        batches = cursor.fetchone()
        cursor.execute(statement("torture/segments"))
        segments = dict(cursor.fetchall())
    found = list(_compare("invoice", {k: tuple(vars(v).values()) for k, v in expected.invoices.items()}, invoices))
    found += _compare("customer", {k: tuple(vars(v).values()) for k, v in expected.customers.items()}, customers)
    found += _compare("quarantined record", expected.rejected, rejected)
    found += _compare("position of partition", end_offsets, positions)
    counted: dict[str, int] = {}
    for customer in expected.customers.values():
        counted[customer.segment] = counted.get(customer.segment, 0) + 1
    found += _compare("customers in segment", counted, segments)
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
        rows = {"rows": len(expected.landed) * times_read}
        found += _compare("lake's number of", rows, {"rows": landed_rows(lake)})
    found += _compare("landed record", expected.landed, landed(lake))
    return found


def _reason(found: str, should: str | None) -> str | None:
    """The reason found; None where any but internal_error may be: the pipeline must know what it refuses."""
    return found if should is not None or found == "internal_error" else None


def landed(lake: str) -> dict[tuple[int, int], Any]:
    """(partition, offset) → invoice number and cents of each record in the lake, one that is there twice with `twice`.

    A rewind lands the topic's records once more, so the same coordinates with the same content are one.
    """
    with duckdb.connect() as engine:
        engine.register("lake", DeltaTable(lake).to_pyarrow_dataset())
        engine.execute(statement("torture/landed"))
        return {(p, o): (i, cents) for p, o, i, cents in engine.fetchall()}


def landed_rows(lake: str) -> int:
    """Rows of the lake, copies included."""
    return int(DeltaTable(lake).to_pyarrow_dataset().count_rows())


def _compare(what: str, should: Mapping[Any, Any], found: Mapping[Any, Any]) -> Iterator[str]:
    missing, surplus = sorted(should.keys() - found.keys()), sorted(found.keys() - should.keys())
    other = sorted(key for key in should.keys() & found.keys() if should[key] != found[key])
    for name, keys in (("missing", missing), ("too many", surplus), ("differs", other)):
        if keys:
            examples = "; ".join(f"{key}: {found.get(key)}, not {should.get(key)}" for key in keys[:_SHOWN])
            yield f"{what} {name}: {len(keys)} ({examples})"
