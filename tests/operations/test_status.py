"""Status: one screen, with what is unavailable as part of the answer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from conf.settings import Settings
from mart.status import Batches, Disk, Nightly, Observed
from operations.status import Status, Writer, describe
from tests.builders.rendered import rendered
from tests.builders.verbs import run

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def shown(status: Status) -> dict[str, str]:
    rows = [line.split("  ", 1) for line in rendered(describe(status), 200).splitlines()]
    return {name: text.strip() for name, text in rows}


def test_what_does_not_answer_is_told_and_the_rest_is_unknown():
    status = Status(Observed("no broker", "no mart"), None, None, "none yet at /lake")
    assert status.unavailable
    assert shown(status) == {
        "Kafka": "no broker", "mart": "no mart", "job": "unknown", "lag": "unknown", "last batch": "unknown",
        "quarantine": "unknown", "lake": "none yet at /lake", "rules": "unknown",
    }  # fmt: skip


def test_a_mart_at_work():
    observed = Observed(
        batches=Batches(NOON, 3.2, 100, 1),
        nightly=Nightly("kept back", "no baskets", date(2026, 3, 9), NOON, None, NOON, 1.0),
        lag=1234,
        disks=(Disk("lake", Path("/lake"), 20, 80),),
    )
    found = shown(Status(observed, Writer(True, "here pid 7", NOON), 12, "version 3"))
    assert found["job"] == "running: here pid 7"
    assert found["lag"] == "1,234 records not applied yet"
    assert found["last batch"] == "3 s ago, at 2026-03-10 12:00:00 UTC"
    assert found["quarantine"] == "12 records: `retail-mart rejected list`"
    assert found["rules"] == "newest run kept back, for 2026-03-09: no baskets"
    assert found["disk of the lake"] == "20 bytes of 80 bytes free (25 %)"


@pytest.mark.stack
def test_the_command_on_a_fresh_mart(tmp_path, monkeypatch, servers, fresh_mart, fresh_topic):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "MART_HOME": str(tmp_path),
        "MART_DSN": fresh_mart.writer_dsn,
        "MART_OWNER_DSN": fresh_mart.owner_dsn,
        "MART_READER_DSN": fresh_mart.reader_dsn,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "KAFKA_TOPIC": fresh_topic,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    assert run("migrate").code == 0
    seen = run("status")
    assert seen.code == 0, seen
    for said in ("not running", "0 records not applied yet", "none yet", "0 records", "no run yet"):
        assert said in seen.out
