"""Landing on real Delta tables, on batches that a person can check by hand; no Spark, no Kafka."""

from __future__ import annotations

import shutil
import threading
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from conf.errors import GapError, StreamingError, TopicChangedError, UnavailableError
from conf.lake import LAKE_SCHEMA
from lake import table as table_module
from lake.files import compact
from lake.table import advance, existing_lake, forget, lake_exists, open_lake, read_next_offsets, record_topic
from streaming import land as streaming_land
from streaming.land import lake_rows, land_batch
from tests.builders.landed import TOPIC, batch, landed_coordinates, valid, wrong
from topic.describe import Topic

RECREATED = Topic("invoices", "22222222-2222-2222-2222-222222222222", {0: 0, 1: 0}, {0: 5, 1: 5})


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture
def table(path: str) -> DeltaTable:
    return open_lake(path)


def test_a_valid_invoice_becomes_one_row_with_its_raw_lines_and_coordinates(table, path):
    landed = land_batch(table, TOPIC, batch(valid(0), wrong(1), valid(2, day="2026-02-28")))
    assert (landed.records, landed.rows, landed.rejected, landed.skipped, landed.files) == (3, 2, 1, 0, 2)
    rows = DeltaTable(path).to_pyarrow_table().sort_by("offset").to_pylist()
    assert [row["business_date"] for row in rows] == [date(2026, 3, 1), date(2026, 2, 28)]
    [first, _] = rows
    assert first == {
        **dict.fromkeys(LAKE_SCHEMA.names),
        **valid(0),
        "business_date": date(2026, 3, 1),
        "topic": "invoices",
    }
    assert DeltaTable(path).metadata().partition_columns == ["business_date"]


def test_the_lake_has_exactly_the_contracts_columns(table):
    assert pa.schema(table.schema().to_arrow()).equals(LAKE_SCHEMA)
    assert lake_rows(batch(valid(0)), "invoices").schema.equals(LAKE_SCHEMA)
    assert lake_rows(batch(), "invoices").num_rows == 0


def test_next_offsets_are_in_the_commit_of_the_rows(table, path):
    assert read_next_offsets(table, TOPIC, [0, 1]) == {}
    landed = land_batch(table, TOPIC, batch(valid(0), valid(1), valid(0, partition=1)))
    assert landed.next_offsets == {0: 2, 1: 1}
    assert landed.version == DeltaTable(path).version() == 1
    assert read_next_offsets(DeltaTable(path), TOPIC, [0, 1]) == {0: 2, 1: 1}
    assert read_next_offsets(DeltaTable(path), RECREATED, [0, 1]) == {}


def test_a_batch_of_rejected_records_moves_the_next_offsets_too(table, path):
    landed = land_batch(table, TOPIC, batch(wrong(0), wrong(1)))
    assert (landed.rows, landed.rejected, landed.files) == (0, 2, 0)
    assert read_next_offsets(DeltaTable(path), TOPIC, [0, 1]) == {0: 2}
    assert landed_coordinates(path) == []


def test_what_is_in_the_lake_is_skipped_and_the_rest_landed(table, path):
    land_batch(table, TOPIC, batch(valid(0), valid(1), valid(0, partition=1)))
    again = land_batch(table, TOPIC, batch(valid(0), valid(1), valid(0, partition=1)))
    assert (again.rows, again.skipped, again.next_offsets) == (0, 3, {})
    overlap = land_batch(table, TOPIC, batch(valid(1), valid(2), valid(0, partition=1), valid(1, partition=1)))
    assert (overlap.rows, overlap.skipped, overlap.next_offsets) == (2, 2, {0: 3, 1: 2})
    assert landed_coordinates(path) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_gap_is_an_error_and_lands_nothing(table, path):
    land_batch(table, TOPIC, batch(valid(0)))
    with pytest.raises(
        GapError, match="partition 0: the batch starts at offset 3, the lake's next offset is 1: 2 offsets"
    ):
        land_batch(table, TOPIC, batch(valid(3), valid(0, partition=1)))
    assert landed_coordinates(path) == [(0, 0)]
    advance(table, TOPIC, {0: 3})  # what --accept-gap does
    assert land_batch(table, TOPIC, batch(valid(3))).rows == 1


def test_two_jobs_that_land_the_same_records_at_once_land_them_once(path):
    """Both have read the next offsets before either commits: Delta refuses the second, which then skips its rows."""
    first, second = open_lake(path), open_lake(path)
    both_have_looked = threading.Barrier(2, timeout=20)
    results, looked = [], threading.local()

    def read_then_wait(*arguments):
        next_offsets = read_next_offsets(*arguments)
        if not getattr(looked, "once", False):
            looked.once = True
            both_have_looked.wait()
        return next_offsets

    def job(table):
        results.append(land_batch(table, TOPIC, batch(valid(0), valid(1), valid(0, partition=1))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming_land, "read_next_offsets", read_then_wait)
        jobs = [threading.Thread(target=job, args=(table,)) for table in (first, second)]
        for thread in jobs:
            thread.start()
        for thread in jobs:
            thread.join(30)
    assert sorted((r.rows, r.skipped) for r in results) == [(0, 3), (3, 0)]
    assert landed_coordinates(path) == [(0, 0), (0, 1), (1, 0)]


def test_next_offsets_outlive_compaction_vacuum_checkpoints_and_the_logs_expiry(table, path):
    for offset in range(6):
        land_batch(table, TOPIC, batch(valid(offset)))
    done = compact(path, retention_hours=0)
    assert (done.files_before, done.files_after, done.merged, done.deleted) == (6, 1, 6, 6)
    stale = open_lake(path)
    stale.create_checkpoint()
    for commit in sorted(Path(path, "_delta_log").glob("*.json"))[:-1]:  # as if a month had passed
        commit.unlink()
    assert read_next_offsets(DeltaTable(path), TOPIC, [0, 1]) == {0: 6}
    assert land_batch(table, TOPIC, batch(valid(5), valid(6))).skipped == 1
    assert landed_coordinates(path) == [(0, offset) for offset in range(7)]


def test_a_recreated_topic_is_an_error_until_a_rewind(table, path):
    record_topic(table, TOPIC)
    land_batch(table, TOPIC, batch(valid(0), valid(1)))
    record_topic(open_lake(path), TOPIC)
    with pytest.raises(TopicChangedError, match=r"re-created: it has id 2222.*retail-mart rewind"):
        record_topic(open_lake(path), RECREATED)
    forget(existing_lake(path), RECREATED)
    record_topic(open_lake(path), RECREATED)
    assert land_batch(table, RECREATED, batch(valid(0))).rows == 1
    assert landed_coordinates(path) == [(0, 0), (0, 0), (0, 1)]


def test_rewind_forgets_and_a_job_that_still_runs_cannot_go_on(table, path):
    land_batch(table, TOPIC, batch(valid(0), valid(1)))
    forget(existing_lake(path), TOPIC)
    assert read_next_offsets(existing_lake(path), TOPIC, [0, 1]) == {}
    with pytest.raises(GapError, match="the lake's next offset is 0: 2 offsets would be lost"):
        land_batch(table, TOPIC, batch(valid(2)))
    assert land_batch(table, TOPIC, batch(valid(0), valid(1))).rows == 2
    assert landed_coordinates(path) == [(0, 0), (0, 0), (0, 1), (0, 1)]


def test_two_topics_in_one_lake_have_next_offsets_of_their_own(table):
    other = Topic("returns", "33333333-3333-3333-3333-333333333333", {0: 0}, {0: 9})
    record_topic(table, TOPIC)
    record_topic(table, other)
    land_batch(table, TOPIC, batch(valid(0), valid(1)))
    land_batch(table, other, batch(valid(0)))
    assert (read_next_offsets(table, TOPIC, [0]), read_next_offsets(table, other, [0])) == ({0: 2}, {0: 1})


def test_a_table_that_is_not_a_lake_is_refused_by_name(tmp_path):
    path = str(tmp_path / "other")
    write_deltalake(path, pa.table({"invoice": ["1"]}))
    with pytest.raises(StreamingError, match="other columns than this version writes: found invoice string"):
        open_lake(path)
    (tmp_path / "broken" / "_delta_log").mkdir(parents=True)
    (tmp_path / "broken" / "_delta_log" / f"{0:020}.json").write_text("{")
    with pytest.raises(StreamingError, match=r"broken cannot be used: .* Set LAKE_PATH"):
        open_lake(str(tmp_path / "broken"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamingError, match="file cannot be used"):
        open_lake(str(tmp_path / "file"))


def test_no_lake_yet_is_said_with_the_way_to_have_one(tmp_path):
    path = str(tmp_path / "nothing")
    assert not lake_exists(path)
    with pytest.raises(StreamingError, match=r"no lake at .*nothing yet: .*retail-mart run"):
        compact(path, 168)


def test_storage_that_fails_is_worth_another_try_and_a_commit_that_never_succeeds_too(table, monkeypatch):
    def no_space(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(table_module, "write_deltalake", no_space)
    with pytest.raises(UnavailableError, match="is unavailable: No space left on device"):
        land_batch(table, TOPIC, batch(valid(0)))

    def conflict(*_, **__):
        raise CommitFailedError("conflict")

    monkeypatch.setattr(table_module, "write_deltalake", conflict)
    with pytest.raises(UnavailableError, match="took no commit: conflict"):
        land_batch(table, TOPIC, batch(valid(0)))


def test_a_lake_deleted_under_a_running_job_is_not_silently_begun_anew(table, path):
    land_batch(table, TOPIC, batch(valid(0)))
    shutil.rmtree(path)
    with pytest.raises(StreamingError):
        land_batch(table, TOPIC, batch(valid(1)))
    assert not lake_exists(path)
