"""Redrive through the whole line: a record that a rule refused is counted once after the rule was changed."""

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
from tests.builders.pipeline import Line
from tests.builders.records import encode, event, random_events, send

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.slow]


def run(line: Line, spark, settings) -> None:
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())


def test_redriven_records_are_applied_and_landed_exactly_once(line, spark, monkeypatch):
    strict = line.settings.model_copy(update={"max_message_bytes": 1000})
    large = [event(f"L{n}", "2025-06-01", f"big{n}", *[("A1", 1, "0.10")] * 30) for n in range(3)]
    send(line.bootstrap_servers, line.topic, encode([*random_events(60, customers=20, seed=5), *large]))
    run(line, spark, strict)
    refused = [(large_one["invoice"],) for large_one in large]
    assert rows(line.mart.owner_dsn, "SELECT reason, count(*) FROM mart.rejected_invoice GROUP BY 1") == [
        ("too_large", 3)
    ]

    with closing(psycopg2.connect(line.mart.writer_dsn)) as connection:
        # Killed between the broker's acknowledgement and the mart's commit: they are on the topic, and still wait.
        with monkeypatch.context() as patch:
            patch.setattr(redrive_module, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                redrive(line.settings, connection)
        assert redrive(line.settings, connection, dry_run=True).sent == 3
        # So they are sent a second time, and both copies reach the stream.
        assert redrive(line.settings, connection).sent == 3
        run(line, spark, line.settings)
        assert redrive(line.settings, connection).seen == 0

    monetary = (
        "SELECT customer_id, frequency, monetary::text FROM mart.customer WHERE customer_id LIKE 'big%' ORDER BY 1"
    )
    assert rows(line.mart.owner_dsn, monetary) == [(f"big{n}", 1, "3.00") for n in range(3)]
    assert rows(line.mart.owner_dsn, "SELECT invoice FROM mart.invoice WHERE invoice LIKE 'L%' ORDER BY 1") == refused
    verified = verify(line.settings, wait_seconds=0)
    assert verified.equal
    assert verified.rows["invoice"] == 63
