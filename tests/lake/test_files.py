"""Compaction on real Delta tables."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from conf.errors import GapError
from lake.files import compact
from lake.table import open_lake
from streaming.land import land_batch
from tests.builders.landed import TOPIC, batch, landed_coordinates, valid

DAYS = ("2026-03-01", "2026-03-02")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A lake of 5 commits, each with a file in both of two business dates."""
    path = str(tmp_path / "lake")
    table = open_lake(path)
    for n in range(0, 10, 2):
        land_batch(table, TOPIC, batch(valid(n, day=DAYS[0]), valid(n + 1, day=DAYS[1])))
    return path


def parquet_files(path: str) -> list[Path]:
    return sorted(Path(path).glob("business_date=*/*.parquet"))


def test_small_files_of_a_date_become_one_and_old_versions_stay_readable(path):
    before = DeltaTable(path).version()
    done = compact(path, retention_hours=168)
    assert (done.files_before, done.files_after, done.merged, done.deleted) == (10, 2, 10, 0)
    assert 0 < done.bytes_after < done.bytes_before
    assert len(parquet_files(path)) == 12  # the merged ones are kept for their readers
    assert DeltaTable(path, version=before).to_pyarrow_table().num_rows == 10
    assert landed_coordinates(path) == [(0, n) for n in range(10)]


def test_files_past_the_retention_are_deleted_and_so_are_those_of_a_killed_writer(path):
    orphan = Path(path, f"business_date={DAYS[0]}", "part-00000-of-a-killed-writer.snappy.parquet")
    orphan.write_bytes(parquet_files(path)[0].read_bytes())
    young = orphan.with_name("part-00000-being-written-now.snappy.parquet")
    young.write_bytes(orphan.read_bytes())
    two_hours_ago = time.time() - 2 * 3600
    os.utime(orphan, (two_hours_ago, two_hours_ago))
    assert compact(path, retention_hours=1).deleted == 1
    assert not orphan.exists()
    assert young.exists()  # a commit may still come
    assert compact(path, retention_hours=0).deleted == 11  # 10 merged ones and the young one
    assert len(parquet_files(path)) == 2
    assert landed_coordinates(path) == [(0, n) for n in range(10)]


def test_again_does_nothing(path):
    compact(path, retention_hours=168)
    again = compact(path, retention_hours=168)
    assert (again.files_before, again.files_after, again.merged, again.deleted) == (2, 2, 0, 0)


def test_compacting_while_landing_appends_loses_nothing_and_doubles_nothing(path):
    failures: list[BaseException] = []

    def appends() -> None:
        table = open_lake(path)
        try:
            for n in range(10, 150):
                land_batch(table, TOPIC, batch(valid(n, day=DAYS[n % 2])))
        except BaseException as failure:
            failures.append(failure)

    landing = threading.Thread(target=appends)
    landing.start()
    merged = rounds = 0
    while landing.is_alive():
        merged += compact(path, retention_hours=1).merged
        rounds += 1
    landing.join()
    assert not failures
    assert rounds > 1
    assert merged > 10
    assert landed_coordinates(path) == [(0, n) for n in range(150)]
    with pytest.raises(GapError):  # the next offsets came along
        land_batch(open_lake(path), TOPIC, batch(valid(151)))
