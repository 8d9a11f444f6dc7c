"""What `export` reads of the lake, on real Delta tables; no PostgreSQL."""

from __future__ import annotations

from deltalake.fs import DeltaStorageHandler

from lake.table import existing_lake, open_lake
from operations.export import landed
from streaming.land import land_batch
from tests.builders.landed import TOPIC, batch, valid


def test_no_file_is_left_to_threads_that_outlive_the_last_row(tmp_path, monkeypatch):
    """Arrow's threads hold the files of Python's until after it: a process that ends in that moment, as this command's
    does, aborted (`terminate called without an active exception`, code 134), in six of eight runs on the demo's lake.
    """
    path = str(tmp_path / "lake")
    land_batch(open_lake(path), TOPIC, batch(valid(0), valid(1), valid(2, day="2026-03-02")))
    opened: list[str] = []
    monkeypatch.setattr(DeltaStorageHandler, "open_input_file", lambda _self, name: opened.append(name))
    assert [row["invoice"] for row in landed(existing_lake(path), "c1")["invoices"]] == ["0-0", "0-2"]
    assert opened == []


def test_an_id_is_compared_as_it_is(tmp_path):
    path = str(tmp_path / "lake")
    strange = ["o'brien", "{customer}", "' OR 1=1 --", "a\\'b", "%", "''"]
    land_batch(open_lake(path), TOPIC, batch(*(valid(n) | {"customer_id": who} for n, who in enumerate(strange))))
    found = [landed(existing_lake(path), who)["invoices"] for who in strange]
    assert [[row["customer_id"] for row in rows] for rows in found] == [[who] for who in strange]
    assert landed(existing_lake(path), "o")["invoices"] == []
