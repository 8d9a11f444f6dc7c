"""The same records, however often and in whatever order they come, give the same mart: on real parts."""

from __future__ import annotations

import json
import random
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from conf.errors import StreamingError, TopicChangedError
from mart.connection import connect
from mart.next_offsets import forget
from streaming.main import RunOptions, stream
from tests.builders.mart_rows import assert_mart_equals, rows, snapshot
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.spark]


@pytest.fixture
def catch_up(spark, pipeline: Pipeline):
    """Apply all that is on the topic now; returns the number of batches."""

    def run(options: RunOptions = RunOptions(available_now=True, only="apply"), **changes) -> int:
        return stream(spark, pipeline.settings.model_copy(update=changes), options, threading.Event())["apply"]

    return run


def rewind(pipeline: Pipeline) -> None:
    with closing(connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        forget(cursor, pipeline.topic)


@pytest.mark.parametrize("returns_policy", ["ignore", "net"])
def test_mart_equals_the_oracle(pipeline, catch_up, returns_policy):
    events = random_events(3000, customers=400, seed=1)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(events))
    assert catch_up(max_invoices_per_batch=700, returns_policy=returns_policy) > 3
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events, returns_policy))
    [(applied, in_batches)] = rows(
        pipeline.mart.owner_dsn, "SELECT (SELECT count(*) FROM mart.invoice), (SELECT sum(invoices) FROM mart.batch)"
    )
    assert applied == in_batches == 3000


def test_topic_consumed_three_times_and_a_fifth_delivered_twice_in_another_order(pipeline, catch_up):
    events = random_events(2000, customers=300, seed=2)
    records = encode(events)
    send(pipeline.bootstrap_servers, pipeline.topic, records)
    catch_up()
    before = snapshot(pipeline.mart.owner_dsn)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))
    for _ in range(2):
        rewind(pipeline)
        assert catch_up(max_invoices_per_batch=999) > 1
        assert snapshot(pipeline.mart.owner_dsn) == before
    again = random.Random(3).sample(records, 400)
    send(pipeline.bootstrap_servers, pipeline.topic, again)
    catch_up()
    assert snapshot(pipeline.mart.owner_dsn) == before
    assert rows(pipeline.mart.owner_dsn, "SELECT sum(duplicates) FROM mart.batch") == [(2 * 2000 + 400,)]


def test_order_of_arrival_changes_nothing(pipeline, catch_up):
    events = random_events(1000, customers=150, seed=4)
    shuffled = random.Random(5).sample(events, len(events))
    send(pipeline.bootstrap_servers, pipeline.topic, encode(shuffled))
    catch_up(max_invoices_per_batch=150)
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(events))


def test_bad_records_are_quarantined_and_the_rest_goes_on(pipeline, catch_up):
    good = [event(str(n), "2025-01-01", f"c{n % 3}") for n in range(20)]
    conflict = event("7", "2025-01-01", "c1", ("A1", 2, "1.00"))
    bad = [b"not json", b"", None, b'{"version": 9}', json.dumps(conflict).encode(), b"\xff" * 10]
    records = [
        record for n, record in enumerate(encode(good)) for record in ([record, (b"k", bad[n])] if n < 4 else [record])
    ]
    send(pipeline.bootstrap_servers, pipeline.topic, [*records, (b"c1", bad[4]), (b"k", bad[5])])
    catch_up()
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(good))
    quarantined = rows(pipeline.mart.owner_dsn, "SELECT reason, raw FROM mart.rejected_invoice")
    assert sorted(quarantined, key=str) == sorted(
        [
            ("not_json", bad[0]),
            ("not_json", bad[1]),
            ("no_value", None),
            ("unknown_version", bad[3]),
            ("conflicting_duplicate", bad[4]),
            ("not_utf8", bad[5]),
        ],
        key=str,
    )
    rewind(pipeline)
    catch_up()
    assert len(rows(pipeline.mart.owner_dsn, "SELECT FROM mart.rejected_invoice")) == 6


def test_restart_goes_on_from_the_marts_next_offsets_whatever_the_checkpoint(pipeline, catch_up):
    parts = [random_events(300, customers=50, seed=seed) for seed in (6, 7, 8)]
    for number, part in enumerate(parts):
        for invoice in part:
            invoice["invoice"] = f"{number}-{invoice['invoice']}".replace("-C", "-")
    checkpoint = Path(pipeline.settings.checkpoints)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(parts[0]))
    catch_up()
    assert [path for path in checkpoint.rglob("*") if path.is_file()] == []  # it went with the run
    send(pipeline.bootstrap_servers, pipeline.topic, encode(parts[1]))
    shutil.rmtree(checkpoint)
    catch_up()
    send(pipeline.bootstrap_servers, pipeline.topic, encode(parts[2]))
    left = checkpoint / pipeline.topic / "apply-killed" / "offsets"  # of a job that was killed, and half written
    left.mkdir(parents=True)
    (left / "0").write_text("{")
    catch_up()
    assert not left.exists()
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers([e for part in parts for e in part]))
    assert rows(pipeline.mart.owner_dsn, "SELECT sum(records), sum(duplicates) FROM mart.batch") == [(900, 0)]


def test_recreated_topic_and_missing_topic_are_clear_errors(pipeline, catch_up, servers):
    import stack

    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(10, customers=5, seed=9)))
    catch_up()
    before = snapshot(pipeline.mart.owner_dsn)
    stack.delete_topic(pipeline.bootstrap_servers, pipeline.topic)
    with pytest.raises(StreamingError, match=f"topic '{pipeline.topic}' does not exist"):
        catch_up()
    stack.ensure_topic(pipeline.bootstrap_servers, pipeline.topic, 2)
    send(pipeline.bootstrap_servers, pipeline.topic, encode(random_events(20, customers=5, seed=9)))
    with pytest.raises(TopicChangedError, match="retail-mart rewind"):
        catch_up()
    assert snapshot(pipeline.mart.owner_dsn) == before
    rewind(pipeline)
    catch_up()
    assert_mart_equals(pipeline.mart.owner_dsn, expected_customers(random_events(20, customers=5, seed=9)))
