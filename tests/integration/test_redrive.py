"""Redrive through the whole pipeline: a record that a rule refused is counted once after the rule was changed."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg2
import pytest

from operations import redrive as redrive_module
from operations.redrive import redrive
from operations.verify import verify
from streaming.main import RunOptions, stream
from tests.builders.mart_rows import rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def run(pipeline: Pipeline, spark, settings) -> None:
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


def test_redriven_records_are_applied_and_landed_exactly_once(pipeline, spark, monkeypatch):
    strict = pipeline.settings.model_copy(update={"max_message_bytes": 1000})
    large = [event(f"L{n}", "2025-06-01", f"big{n}", *[("A1", 1, "0.10")] * 30) for n in range(3)]
    send(pipeline.bootstrap_servers, pipeline.topic, encode([*random_events(60, customers=20, seed=5), *large]))
    run(pipeline, spark, strict)
    refused = [(large_one["invoice"],) for large_one in large]
    assert rows(pipeline.mart.owner_dsn, "SELECT reason, count(*) FROM mart.rejected_invoice GROUP BY 1") == [
        ("too_large", 3)
    ]

    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as connection:
        # Killed between the broker's acknowledgement and the mart's commit: they are on the topic, and still wait.
        with monkeypatch.context() as patch:
            patch.setattr(redrive_module, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                redrive(pipeline.settings, connection)
        assert redrive(pipeline.settings, connection, dry_run=True).sent == 3
        # So they are sent a second time, and both copies reach the stream.
        assert redrive(pipeline.settings, connection).sent == 3
        run(pipeline, spark, pipeline.settings)
        assert redrive(pipeline.settings, connection).seen == 0

    monetary = (
        "SELECT customer_id, frequency, monetary::text FROM mart.customer WHERE customer_id LIKE 'big%' ORDER BY 1"
    )
    assert rows(pipeline.mart.owner_dsn, monetary) == [(f"big{n}", 1, "3.00") for n in range(3)]
    assert (
        rows(pipeline.mart.owner_dsn, "SELECT invoice FROM mart.invoice WHERE invoice LIKE 'L%' ORDER BY 1") == refused
    )
    verified = verify(pipeline.settings, wait_seconds=0)
    assert verified.equal
    assert verified.rows["invoice"] == 63
