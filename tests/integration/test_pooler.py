"""Everything through a pooler in transaction mode, where each transaction may be another session of PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from conf.errors import StreamingError, UnavailableError
from dashboards.cards import cards
from dashboards.live import Live
from dashboards.reader import Reader
from mart.connection import connect
from mart.lock_watch import LockWatch
from mart.migrate import migrate
from mart.status import observe
from operations.backup import backup, restore
from operations.erase import erase
from operations.explain import explain
from operations.export import export
from operations.repair import repair
from operations.verify import verify
from streaming.main import RunOptions, stream
from streaming.metrics import MartState
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Mart, Pipeline, new_mart
from tests.builders.pooler import pgbouncer, pooled
from tests.builders.records import encode, random_events, send
from tests.builders.waiting import until
from torture.oracle import expected_customers

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(pgbouncer() is None, reason="no pgbouncer here (Debian's package of that name)"),
]


@pytest.fixture
def through(pipeline: Pipeline, tmp_path) -> Iterator[Pipeline]:
    """The pipeline, with every DSN at the pooler."""
    with pooled(pipeline.mart, tmp_path / "pooler") as mart:
        yield at(pipeline, mart)


def at(pipeline: Pipeline, mart: Mart) -> Pipeline:
    dsns = {"mart_dsn": mart.writer_dsn, "mart_owner_dsn": mart.owner_dsn, "mart_reader_dsn": mart.reader_dsn}
    return Pipeline(pipeline.settings.model_validate(pipeline.settings.model_dump() | dsns), mart)


def sessions_are_as_they_were(mart: Mart) -> None:
    """No setting and no table of ours is left in the sessions that all clients share."""
    for dsn in (mart.owner_dsn, mart.writer_dsn, mart.reader_dsn):
        for _ in range(8):
            [found] = rows(
                dsn,
                "SELECT current_setting('default_transaction_read_only'), current_setting('statement_timeout'),"
                " current_setting('search_path'), to_regclass('pg_temp.staged_invoice'), cardinality(array("
                "SELECT pg_listening_channels()))",
            )
            assert found == ("off", "0", '"$user", public', None, 0)


@pytest.mark.spark
def test_the_line_runs_through_it(pipeline: Pipeline, through: Pipeline, spark):
    events = random_events(600, customers=60, seed=71)
    records = encode(events)
    settings, stop = through.settings, threading.Event()

    def others() -> None:
        """Other clients of the same few sessions: what a session keeps, another one would find."""
        while not stop.is_set():
            for dsn in (through.mart.writer_dsn, through.mart.owner_dsn):
                rows(dsn, "SELECT count(*) FROM mart.invoice")

    crowd = [threading.Thread(target=others) for _ in range(2)]
    for thread in crowd:
        thread.start()
    reader = Reader(lambda: through.mart.reader_dsn, listen=True)
    live = Live(reader, cards())
    mart_state = MartState(settings)
    try:
        send(pipeline.bootstrap_servers, pipeline.topic, records[:300])
        stream(spark, small(settings), RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
        live.refresh()
        assert not reader.batch_came(0.01)
        [status] = reader.rows("SELECT invoices FROM mart.stream_status")
        assert status == [300]
        send(pipeline.bootstrap_servers, pipeline.topic, records[300:])
        stream(spark, small(settings), RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
        assert observe(settings).mart_problem is None
        assert next(iter(mart_state.collect())).samples[0].value == 1  # mart_postgresql_up
        assert verify(settings, wait_seconds=0).equal
        repair(settings, wait_seconds=0)
        customer = next(e["customer_id"] for e in events if e["customer_id"])
        assert export(settings, customer)["invoices"]
        with closing(psycopg2.connect(through.mart.reader_dsn)) as connection:
            assert explain(connection, customer, 3).purchases
        assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
        erase(settings, customer)
        assert verify(settings, wait_seconds=0).equal
    finally:
        stop.set()
        for thread in crowd:
            thread.join()
        mart_state.close()
        reader.close()
    sessions_are_as_they_were(through.mart)


def small(settings):
    return settings.model_copy(update={"max_invoices_per_batch": 30})


def test_a_lock_is_told_and_a_stop_ends_the_wait(pipeline: Pipeline, through: Pipeline):
    stopping, failures = threading.Event(), []
    watch = LockWatch(through.settings, stopping)

    def wait() -> None:
        try:
            with closing(connect(through.mart.writer_dsn)) as connection, watch.watching(connection), connection:
                connection.cursor().execute("SELECT count(*) FROM mart.invoice")
        except psycopg2.Error as error:
            failures.append(type(error))

    with closing(psycopg2.connect(pipeline.mart.owner_dsn)) as other:
        other.cursor().execute("LOCK TABLE mart.invoice")
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: rows(pipeline.mart.owner_dsn, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        stopping.set()
        thread.join(60)
        assert failures == [psycopg2.errors.QueryCanceled]
    watch.close()


def test_what_needs_a_session_says_so(pipeline: Pipeline, through: Pipeline, servers, tmp_path):
    with pytest.raises(StreamingError, match="set MART_OWNER_DSN to PostgreSQL's own address"):
        backup(through.settings, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []
    dump = backup(pipeline.settings, tmp_path / "backups")
    with new_mart(servers) as empty, pooled(empty, tmp_path / "another") as mart:
        restore(at(pipeline, mart).settings, dump)  # one transaction, and nothing of its settings stays
        sessions_are_as_they_were(mart)
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            assert migrate(owner) == []
        sessions_are_as_they_were(mart)


def test_a_pooler_that_has_no_server_is_unavailable(pipeline: Pipeline, through: Pipeline):
    with pytest.raises(UnavailableError):
        connect(through.mart.writer_dsn.replace("127.0.0.1", "localhost.invalid"))
    with pytest.raises(StreamingError, match=r"PostgreSQL refuses: .*authentication failed"):
        connect(through.mart.writer_dsn.replace("mart_writer:", "mart_writer:wrong"))
