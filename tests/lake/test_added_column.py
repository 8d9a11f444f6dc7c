"""A lake that an older version made goes on under one whose contract has a column more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from batch_rules.sold import sold_in
from conf.errors import StreamingError
from conf.lake import LAKE_SCHEMA
from lake import table as lake_table
from lake.files import compact
from lake.table import existing_lake, landed_rows, open_lake
from mart.erasure_list import ErasureList
from operations.erase import erase_from_lake
from operations.export import landed
from streaming import land
from streaming.land import land_batch
from tests.builders.landed import BATCH_SCHEMA, TOPIC, batch, valid

TILL = pa.field("till", pa.string())
NEWER = LAKE_SCHEMA.append(TILL)
LISTED = ErasureList("ab" * 32).of_one("c1")


@pytest.fixture
def older(tmp_path) -> str:
    """A lake of today's version, with an invoice of c1."""
    path = str(tmp_path / "lake")
    land_batch(open_lake(path), TOPIC, batch(valid(0), valid(1)))
    return path


@pytest.fixture
def newer(monkeypatch):
    """The version that has the column `till`."""
    for module in (lake_table, land):
        monkeypatch.setattr(module, "LAKE_SCHEMA", NEWER)


def with_till(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist([{**row, "till": "4"} for row in rows], schema=BATCH_SCHEMA.append(TILL))


def tills(path: str) -> list[tuple[int, str | None]]:
    """(offset, till) of each row, as a reader of DuckDB sees them."""
    with duckdb.connect() as engine:
        engine.register("lake", landed_rows(existing_lake(path)))
        return engine.execute('SELECT "offset", till FROM lake ORDER BY "offset"').fetchall()


def test_readers_see_null_before_landing_has_added_the_column(older, newer):
    assert tills(older) == [(0, None), (1, None)]
    assert landed(existing_lake(older), "c1")["invoices"][0]["invoice"] == "0-0"
    assert erase_from_lake(existing_lake(older), LISTED, LISTED).rows == 1
    assert landed(existing_lake(older), "c1")["invoices"] == []
    assert tills(older) == [(0, None), (1, None)]


def test_landing_adds_it_and_everything_goes_on(older, newer, tmp_path):
    table = open_lake(older)
    assert pa.schema(table.schema().to_arrow()).equals(NEWER)
    assert land_batch(table, TOPIC, with_till(valid(2), valid(3))).version == 3
    assert open_lake(older).version() == 3  # nothing more to add
    both = [(0, None), (1, None), (2, "4"), (3, "4")]
    assert tills(older) == both
    assert compact(older, retention_hours=0).files_after == 1
    assert tills(older) == both
    with sold_in(existing_lake(older), date(2026, 2, 28), date(2026, 3, 1), tmp_path) as sold:
        assert sold.invoices == 4
    assert [row["till"] for row in landed(existing_lake(older), "c1")["invoices"]] == [None, "4"]
    assert erase_from_lake(existing_lake(older), LISTED, LISTED).rows == 2
    assert landed(existing_lake(older), "c1")["invoices"] == []
    assert tills(older) == both


def test_two_jobs_that_add_it_at_once_add_it_once(older, newer):
    both = threading.Barrier(2)

    def start() -> DeltaTable:
        both.wait()
        return open_lake(older)

    with ThreadPoolExecutor() as pool:
        tables = [job.result() for job in [pool.submit(start), pool.submit(start)]]
    for table in tables:
        assert pa.schema(table.schema().to_arrow()).equals(NEWER)


def test_the_older_version_does_not_write_what_has_columns_that_it_does_not_know(older, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(lake_table, "LAKE_SCHEMA", NEWER)
        open_lake(older)
    with pytest.raises(StreamingError, match="other columns than this version writes"):
        open_lake(older)


def test_a_column_of_another_type_is_refused(older, monkeypatch):
    monkeypatch.setattr(lake_table, "LAKE_SCHEMA", LAKE_SCHEMA.set(0, pa.field("invoice", pa.int64())).append(TILL))
    with pytest.raises(StreamingError, match="other columns than this version writes"):
        open_lake(older)
