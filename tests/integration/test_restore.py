"""The restore drill: a mart is lost, its backup restored, and the stream goes on; proved by `verify`."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import psycopg2
import pytest

from conf.settings import Settings
from streaming.backup import backup, restore
from streaming.erase import erase
from streaming.errors import FencedError, StreamingError
from streaming.main import RunOptions, stream
from streaming.mart import connect
from streaming.migrate import migrate
from streaming.positions import Writer, check_fence
from streaming.source import Topic
from streaming.verify import verify
from tests.conftest import Line, new_mart
from tests.integration.mart_rows import assert_mart_equals, rows, snapshot
from tests.integration.oracle import expected_customers, lines_of_events
from tests.integration.records import encode, random_events, send

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def run(spark, settings) -> None:
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


def test_restore_drill(line: Line, servers, spark, tmp_path):
    events = random_events(900, customers=80, seed=41)
    customer = next(e["customer_id"] for e in events if e["customer_id"])
    send(line.bootstrap_servers, line.topic, encode(events[:500]))
    run(spark, line.settings)
    dump = backup(line.settings, tmp_path / "backups")
    note = json.loads(dump.with_suffix(".json").read_text())
    assert note["invoices"] == sum(p["next_offset"] for p in note["positions"]) == 500
    assert dump.stat().st_mode & 0o077 == 0
    of_then = snapshot(line.mart.owner_dsn)
    # After the backup: more invoices, and an erasure. Then the mart is lost; the lake is ahead of its backup.
    send(line.bootstrap_servers, line.topic, encode(events[500:800]))
    run(spark, line.settings)
    erase(line.settings, customer)
    [(epoch,)] = rows(line.mart.owner_dsn, "SELECT epoch FROM mart.stream_writer")
    with pytest.raises(StreamingError, match="holds a mart already"):
        restore(line.settings, dump)

    with new_mart(servers) as mart:
        dsns = {"mart_dsn": mart.writer_dsn, "mart_owner_dsn": mart.owner_dsn, "mart_reader_dsn": mart.reader_dsn}
        settings = line.settings.model_validate(line.settings.model_dump() | dsns)
        dump.write_bytes(dump.read_bytes() + b"x")
        with pytest.raises(StreamingError, match="is not the dump"):
            restore(settings, dump)
        dump.write_bytes(dump.read_bytes()[:-1])
        done = restore(settings, dump)
        assert done.erased_again == 1
        restored = snapshot(mart.owner_dsn)
        assert [i[0] for i in restored["invoice"]] == [i[0] for i in of_then["invoice"]]
        assert customer not in {i[2] for i in restored["invoice"]}
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            assert migrate(owner) == []
        # A job that ran against the lost mart does not write into this one.
        with (
            closing(connect(mart.writer_dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(FencedError),
        ):
            check_fence(cursor, Writer(Topic(line.topic, "", {}, {}), epoch))
        verified = verify(settings, wait_seconds=0)  # the lake is ahead
        assert verified.equal, verified.first
        assert verified.rows["invoice"] == 500

        send(line.bootstrap_servers, line.topic, encode(events[800:]))
        run(spark, settings)
        verified = verify(settings, wait_seconds=0)
        assert verified.equal, verified.first
        assert verified.rows["invoice"] == 900
        others = [{**e, "customer_id": None if e["customer_id"] == customer else e["customer_id"]} for e in events]
        assert_mart_equals(mart.owner_dsn, expected_customers(lines_of_events(others)))
        # The rights came along: the reader reads views and no table.
        assert rows(mart.reader_dsn, "SELECT count(*) > 0 FROM mart.customer_segmentation") == [(True,)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(mart.reader_dsn, "SELECT * FROM mart.invoice")


def test_nothing_to_back_up_and_nothing_to_restore(fresh_mart, tmp_path):

    settings = Settings(mart_dsn=fresh_mart.owner_dsn, lake_path=str(tmp_path / "none"))
    with pytest.raises(StreamingError, match="nothing to back up"):
        backup(settings, tmp_path)
    with pytest.raises(StreamingError, match=r"no such file: .*; a backup is two"):
        restore(settings, tmp_path / "mart-1.dump")
