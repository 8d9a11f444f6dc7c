"""Rewind: mart and lake forget together or not at all, also beside a job that still writes."""

from __future__ import annotations

from contextlib import closing

import pytest
from deltalake.exceptions import CommitFailedError

from conf.errors import FencedError, UnavailableError
from conf.kafka import Brokers
from conf.settings import Settings
from lake.table import existing_lake, open_lake, read_next_offsets, record_topic
from mart.connection import connect
from mart.next_offsets import advance, check_fence, take_over
from operations import rewind as module
from operations.rewind import Outlook, describe, look, rewind
from streaming.land import land_batch
from tests.builders.landed import batch, valid
from tests.builders.mart_rows import rows
from tests.builders.records import encode, event, send
from tests.builders.verbs import run
from topic.describe import describe_topic

pytestmark = pytest.mark.stack


class Running:
    """A job in the middle of its work: its session, its right to write, and its way into the lake."""

    def __init__(self, pipeline) -> None:
        self.pipeline, self.connection = pipeline, connect(pipeline.mart.writer_dsn)
        self.topic = describe_topic(Brokers.of(pipeline.settings), pipeline.topic)
        self.lake = open_lake(pipeline.settings.lake)
        record_topic(self.lake, self.topic)
        with self.connection, self.connection.cursor() as cursor:
            self.writer = take_over(cursor, self.topic, "here pid 7")
            advance(cursor, self.writer, {0: 3, 1: 2})
        self.land(valid(0), valid(1))

    def land(self, *records: dict) -> None:
        land_batch(self.lake, self.topic, batch(*records))

    def stands(self) -> tuple[list[tuple[int, int]], dict[int, int]]:
        """The next offsets of mart and lake."""
        in_mart = rows(self.pipeline.mart.owner_dsn, 'SELECT "partition", next_offset FROM mart.next_offset ORDER BY 1')
        return in_mart, read_next_offsets(existing_lake(self.pipeline.settings.lake), self.topic, [0, 1])

    def is_fenced(self) -> bool:
        with self.connection, self.connection.cursor() as cursor:
            try:
                check_fence(cursor, self.writer)
            except FencedError:
                return True
        return False


@pytest.fixture
def job(pipeline):
    job = Running(pipeline)
    with closing(job.connection):
        yield job


def test_both_forget_though_a_landing_commits_in_between(job, monkeypatch):
    forget, landed = module.forget_landed, []

    def forget_after_a_landing(*arguments) -> None:
        if not landed:
            landed.append(job.land(valid(2)))
        forget(*arguments)

    monkeypatch.setattr(module, "forget_landed", forget_after_a_landing)
    said: list[str] = []
    rewind(job.pipeline.settings, None, said.append)
    assert job.stands() == ([], {})
    assert job.is_fenced()
    assert [line.split(" will be ")[1] for line in said] == [
        "applied from its first record again", "landed from its first record again",
    ]  # fmt: skip


def test_a_lake_that_takes_no_commit_leaves_the_mart_and_its_job_as_they_are(job, monkeypatch):
    def fail(*_) -> None:
        raise CommitFailedError("another writer")

    before = job.stands()
    with monkeypatch.context() as broken:
        broken.setattr(module, "forget_landed", fail)
        with pytest.raises(UnavailableError, match="took no commit: another writer"):
            rewind(job.pipeline.settings, None, lambda _: None)
    assert job.stands() == before == ([(0, 3), (1, 2)], {0: 2})
    assert not job.is_fenced()
    rewind(job.pipeline.settings, None, lambda _: None)
    assert job.stands() == ([], {})


@pytest.mark.parametrize(
    ("only", "left"), [("apply", ([], {0: 2})), ("land", ([(0, 3), (1, 2)], {}))], ids=["the mart", "the lake"]
)
def test_only_one_of_them(job, only, left):
    said: list[str] = []
    rewind(job.pipeline.settings, only, said.append)
    assert job.stands() == left
    assert len(said) == 1
    assert job.is_fenced() == (only == "apply")


def test_what_it_leads_to_is_said(job):
    send(job.pipeline.bootstrap_servers, job.pipeline.topic, encode([event("1", "2025-01-01", "c")]))
    assert look(job.pipeline.settings, None) == Outlook(job.pipeline.topic, 1, None, "here pid 7")
    assert look(job.pipeline.settings, "land") == Outlook(job.pipeline.topic, 1, None, None)
    assert describe(Outlook("invoices", 22_274, 12.4, "here pid 7"), None) == (
        "The next run reads topic 'invoices' into mart and lake from its first record again: 22,274 records, which "
        "takes about 12 s. Nothing is counted twice. The job here pid 7 is running: it is fenced at its next batch, "
        "start it again then."
    )


def test_the_command_asks(job, monkeypatch, tmp_path):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in job.pipeline.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdin", (tmp_path / "nobody answers").open("w+"))
    before = job.stands()
    declined = run("rewind")
    assert declined.code == 1
    assert "from its first record again: 0 records" in declined.out
    assert job.stands() == before
    assert run("rewind", "--yes").code == 0
    assert job.stands() == ([], {})
