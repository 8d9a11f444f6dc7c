"""Redrive from a real quarantine onto a real topic; no Spark. What the stream makes of it: tests/integration."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from kafka import KafkaConsumer, TopicPartition

from conf.errors import UnavailableError
from mart.quarantine import Rejected, count, find, newest, quarantine
from mart.reject_reason import RejectReason
from operations import redrive as redrive_module
from operations.redrive import Redriven, redrive
from streaming.parse import RejectedError, parse_invoice
from tests.builders.mart_rows import rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import event
from topic.describe import Topic

pytestmark = pytest.mark.stack
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TOPIC_ID = "11111111-1111-1111-1111-111111111111"


def invoice(number: str, customer: str | None = "c1", date: str = "2025-03-01", price: str = "1.00") -> bytes:
    return json.dumps(event(number, date, customer, ("A1", 2, price))).encode()


class Quarantine:
    """The quarantine of a pipeline, filled by hand, and what its topic holds."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.connection = psycopg2.connect(pipeline.mart.writer_dsn)
        self.topic = Topic(pipeline.topic, TOPIC_ID, {}, {})

    def put(self, offset: int, raw: bytes | None, partition: int = 0, at: datetime = LONG_AGO) -> None:
        """A record with the reason that the parser gave it, or as a conflict if the parser takes it."""
        try:
            parse_invoice(raw, at, self.pipeline.settings.zone, 1000)
            reason, detail = RejectReason.CONFLICTING_DUPLICATE, "conflict"
        except RejectedError as error:
            reason, detail = error.reason, error.detail
        with self.connection, self.connection.cursor() as cursor:
            quarantine(cursor, self.topic, [Rejected(partition, offset, at, reason, detail, raw)])

    def redrive(self, *reasons: RejectReason, coordinates=(), dry_run: bool = False) -> Redriven:
        return redrive(self.pipeline.settings, self.connection, reasons, coordinates, dry_run)

    def states(self) -> dict[str, tuple[str, str | None]]:
        found = rows(
            self.pipeline.mart.owner_dsn, 'SELECT "partition", "offset", reason, outcome FROM mart.rejected_invoice'
        )
        return {f"{partition}:{offset}": (reason, outcome) for partition, offset, reason, outcome in found}

    def sent(self) -> list[tuple[bytes, bytes]]:
        """(key, value) of every record on the topic, sorted."""
        consumer = KafkaConsumer(bootstrap_servers=self.pipeline.bootstrap_servers, enable_auto_commit=False)
        with closing(consumer):
            partitions = [TopicPartition(self.pipeline.topic, n) for n in (0, 1)]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning(*partitions)
            found: list[tuple[bytes, bytes]] = []
            while any(consumer.position(p) < ends[p] for p in partitions):
                for polled in consumer.poll(timeout_ms=500).values():
                    found += [(record.key, record.value) for record in polled]
        return sorted(found)

    def apply(self, raw: bytes) -> None:
        """The invoice stands in the mart, as the stream would have applied it."""
        parsed = parse_invoice(raw, datetime.now(UTC), self.pipeline.settings.zone)
        with closing(psycopg2.connect(self.pipeline.mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
            cursor.execute(
                "INSERT INTO mart.invoice VALUES (%s, %s, %s, 1, 1, 2.00, 0, decode(%s, 'hex'), 1, 99, now())",
                (parsed.invoice, parsed.invoice_date, parsed.customer_id, parsed.content_sha256),
            )


@pytest.fixture
def shelf(pipeline: Pipeline):
    shelf = Quarantine(pipeline)
    yield shelf
    shelf.connection.close()


def test_what_is_right_today_is_sent_byte_for_byte_under_its_key(shelf):
    of_the_future = invoice("1", "\u00e9", date="2024-06-01")  # was far ahead of the record's time, in 2020
    nobodys = invoice("2", None, date="2024-06-01")
    shelf.put(5, of_the_future)
    shelf.put(6, nobodys, partition=1)
    shelf.put(7, b"{}")
    assert shelf.states() == {
        "0:5": ("future_date", None),
        "1:6": ("future_date", None),
        "0:7": ("missing_field", None),
    }
    done = shelf.redrive()
    assert (done.sent, done.in_the_mart, dict(done.stay)) == (2, 0, {"missing_field": 1})
    assert shelf.sent() == sorted([("\u00e9".encode(), of_the_future), (b"2", nobodys)])
    assert shelf.states() == {
        "0:5": ("future_date", "redriven"),
        "1:6": ("future_date", "redriven"),
        "0:7": ("missing_field", None),
    }
    # Once more: nothing is sent a second time.
    done = shelf.redrive()
    assert (done.sent, done.seen) == (0, 1)
    assert len(shelf.sent()) == 2


def test_what_is_wrong_for_another_reason_now_says_so(shelf):
    shelf.put(1, b"x" * 2000)  # too large for 1,000 bytes, which the settings allow
    shelf.put(2, None)
    done = shelf.redrive()
    assert dict(done.stay) == {"not_json": 1, "no_value": 1}
    found = find(shelf.connection, shelf.pipeline.topic, "0:1")
    assert (found.reason, found.raw, found.outcome) == (RejectReason.NOT_JSON, b"x" * 2000, None)
    assert "line 1 column 1" in found.detail
    assert shelf.sent() == []


def test_an_invoice_that_the_mart_has_is_not_sent(shelf):
    applied, other = invoice("1", date="2024-06-01"), invoice("2", date="2024-06-01")
    shelf.put(1, applied)
    shelf.put(2, other)
    shelf.put(3, invoice("2", price="9.00"))  # a conflict, rejected as such by the stream
    shelf.apply(applied)
    shelf.apply(invoice("2", price="5.00"))
    done = shelf.redrive()
    assert (done.sent, done.in_the_mart, dict(done.stay)) == (0, 1, {"conflicting_duplicate": 2})
    assert shelf.states() == {
        "0:1": ("future_date", "in the mart already"),
        "0:2": ("conflicting_duplicate", None),
        "0:3": ("conflicting_duplicate", None),
    }
    assert find(shelf.connection, shelf.pipeline.topic, "0:2").detail == (
        "invoice '2' was applied from partition 1 offset 99"
    )
    assert shelf.sent() == []


def test_chosen_by_reason_by_record_and_tried_before(shelf):
    for offset in range(3):
        shelf.put(offset, invoice(f"{offset}", date="2024-06-01"))
    shelf.put(3, b"nonsense")
    before = shelf.states()
    tried = shelf.redrive(dry_run=True)
    assert (tried.sent, dict(tried.stay)) == (3, {"not_json": 1})
    assert shelf.states() == before
    assert shelf.sent() == []
    assert shelf.redrive(RejectReason.NO_LINES).seen == 0
    assert shelf.redrive(coordinates=["0:1", "1:1"]).sent == 1
    assert shelf.redrive(RejectReason.FUTURE_DATE).sent == 2
    assert [key for key, _ in shelf.sent()] == [b"c1"] * 3
    assert [(c.reason, c.records) for c in count(shelf.connection, shelf.pipeline.topic, [])] == [("not_json", 1)]
    assert {(c.outcome, c.records) for c in count(shelf.connection, shelf.pipeline.topic, [], settled=True)} == {
        (None, 1),
        ("redriven", 3),
    }
    assert [r.coordinates for r in newest(shelf.connection, shelf.pipeline.topic, [], settled=True, limit=2)] == [
        "0:3",
        "0:2",
    ]


def test_more_records_than_a_page(shelf, monkeypatch):
    monkeypatch.setattr("operations.redrive._PAGE", 4)
    for offset in range(11):
        shelf.put(offset, invoice(f"{offset}", date="2024-06-01") if offset % 3 else b"bad", partition=offset % 2)
    done = shelf.redrive()
    assert (done.sent, dict(done.stay)) == (7, {"not_json": 4})
    assert len(shelf.sent()) == 7


def test_a_broker_that_is_unavailable_leaves_them_in_quarantine(shelf):
    shelf.put(1, invoice("1", date="2024-06-01"))
    unavailable = shelf.pipeline.settings.model_copy(
        update={"kafka_bootstrap_servers": "127.0.0.1:1", "kafka_timeout_seconds": 1.0}
    )
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 is unavailable"):
        redrive(unavailable, shelf.connection)
    assert shelf.states() == {"0:1": ("future_date", None)}


def command(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**pipeline.environment(), "COLUMNS": "160", "MAX_MESSAGE_BYTES": "1000000"}
    return subprocess.run(
        [sys.executable, "-m", "cli", "rejected", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
    )


@pytest.mark.slow
def test_commands(shelf):
    pipeline = shelf.pipeline
    assert b"is empty" in command(pipeline, "list").stdout
    shelf.put(4, invoice("1", date="2024-06-01"))
    shelf.put(5, b"\x1b[31mnot \xff json")
    listed = command(pipeline, "list", "--reason", "not_utf8")
    assert listed.returncode == 0
    # The whole first cell: "0:4" alone is also in a time of day, like 20:41.
    assert re.findall(r"^(\d+:\d+) ", listed.stdout.decode(), re.MULTILINE) == ["0:5"]
    shown = command(pipeline, "show", "0:5")
    assert rb"\x1b[31mnot \xff json" in shown.stdout
    assert b"\x1b[31m" not in shown.stdout
    assert command(pipeline, "show", "0:5", "--raw").stdout == b"\x1b[31mnot \xff json"
    missing = command(pipeline, "show", "0:6")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert b"no record 0:6" in missing.stderr
    assert command(pipeline, "redrive").returncode == 2
    assert b"nothing was changed" in command(pipeline, "redrive", "--all", "--dry-run").stdout
    done = command(pipeline, "redrive", "0:4")
    assert b"sent to the topic again" in done.stdout
    assert len(shelf.sent()) == 1


def test_record_that_fails_as_nobody_foresaw_stays_and_the_others_go(shelf, monkeypatch):
    whole = redrive_module.parse_invoice

    def failing(raw, *rest):
        if b"culprit" in raw:
            raise OverflowError("too much")
        return whole(raw, *rest)

    for offset, number in enumerate(["1", "culprit", "3"]):
        raw = invoice(number)
        with shelf.connection, shelf.connection.cursor() as cursor:
            rejected = Rejected(0, offset, LONG_AGO, RejectReason.BAD_TIMESTAMP, "is none", raw)
            quarantine(cursor, shelf.topic, [rejected])
    monkeypatch.setattr(redrive_module, "parse_invoice", failing)
    done = shelf.redrive()
    assert (done.sent, dict(done.stay)) == (2, {RejectReason.INTERNAL_ERROR: 1})
    assert shelf.states() == {
        "0:0": ("bad_timestamp", "redriven"),
        "0:1": ("internal_error", None),
        "0:2": ("bad_timestamp", "redriven"),
    }
