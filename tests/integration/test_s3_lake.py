"""A lake on S3, on a real server: the whole life of it, and what is said when its storage is unavailable or refuses."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from unittest.mock import patch

import pytest
from deltalake import DeltaTable

from conf.errors import StreamingError, UnavailableError
from conf.kafka import Brokers
from lake.files import compact
from lake.table import existing_lake, lake_exists, open_lake, read_next_offsets
from operations.erase import erase
from operations.export import export
from operations.prune import look, prune
from operations.repair import repair
from operations.verify import verify
from streaming.land import land_batch
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.job import running
from tests.builders.landed import batch, valid
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from tests.builders.s3 import BUCKET, SECRET, Proxy, environment, refused, s3_server
from tests.builders.verbs import run
from topic.describe import Topic, describe_topic
from torture.oracle import expected_customers

pytestmark = pytest.mark.slow
DAY = date(2025, 6, 10)


@pytest.fixture(scope="module")
def port():
    with s3_server() as port:
        yield port


@pytest.fixture
def lake(port: int, monkeypatch) -> str:
    """The URL of a lake that is not there yet, and how to get there, in this process and in those that it starts."""
    lake = f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/invoices"
    for name, value in {**environment(f"http://127.0.0.1:{port}"), "LAKE_PATH": lake}.items():
        monkeypatch.setenv(name, value)
    return lake


@pytest.fixture
def on_s3(pipeline: Pipeline, lake: str) -> Pipeline:
    """The pipeline with its lake on S3."""
    return dataclasses.replace(pipeline, settings=pipeline.settings.model_copy(update={"lake_path": lake}))


@pytest.fixture
def proxy(port: int):
    proxy = Proxy(port)
    yield proxy
    proxy.close()


def of_few_dates(count: int, customers: int, seed: int) -> list[dict]:
    """Random invoices of two dozen dates: a lake of few files."""
    events = random_events(count, customers, seed)
    return [
        {**e, "invoice_date": f"{e['invoice_date'][:8]}{'05' if n % 2 else '20'}T10:00:00"}
        for n, e in enumerate(events)
    ]


def sold_together(count: int) -> list[dict]:
    """Invoices of one day, bread and butter in each."""
    return [event(f"T{n}", f"{DAY}", f"{n % 40}", ("A1", 1, "2.50"), ("B2", 1, "1.00")) for n in range(count)]


def command(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """(exit code, what it said) of a command, in this process: pyspark is loaded already."""
    with patch.dict(os.environ, {"COLUMNS": "250", **(environment or {})}):
        ended = run(*arguments)
    assert "Traceback" not in ended.text
    return ended.code, ended.text


@pytest.mark.stack
@pytest.mark.spark
def test_the_life_of_a_lake_on_s3(on_s3, spark, tmp_path):
    current, lake, at = on_s3.settings, on_s3.settings.lake, on_s3.environment()
    events = [*of_few_dates(400, customers=60, seed=71), *sold_together(200)]
    send(on_s3.bootstrap_servers, on_s3.topic, encode(events))
    with running(on_s3.environment(), tmp_path / "log", "--only", "land", "--available-now",
                 "--max-invoices-per-batch", "40") as job:  # fmt: skip
        job.wait_for('"event": "landed"', times=2)
    assert 0 < lake_rows.counts(lake)[0] < 600, "it was killed before or after all of its work: it proves nothing"
    stream(spark, current, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
    assert lake_rows.counts(lake) == (600, 600)

    assert command("compact", environment=at)[0] == 0
    assert len(DeltaTable(lake).file_uris()) == len({e["invoice_date"][:10] for e in events})
    assert lake_rows.counts(lake) == (600, 600)
    assert command("verify", environment=at)[0] == 0
    assert_mart_equals(on_s3.mart.owner_dsn, expected_customers(events))

    assert len(export(current, "7")["lake"]["invoices"]) == 5
    erased = erase(current, "7")
    assert erased.lake is not None
    assert erased.lake.rows == 5
    assert erased.lake.files > 0
    assert lake_rows.query(lake, "SELECT count(*) FROM invoices WHERE customer_id = '7'") == [(0,)]
    assert verify(current, wait_seconds=0).equal
    repaired = repair(current, wait_seconds=0)
    assert repaired.verified.equal
    assert (
        repaired.replaced.removed["invoice"],
        repaired.replaced.corrected["invoice"],
        repaired.replaced.added["invoice"],
    ) == (0, 0, 0)

    code, said = command("landed", "--business-date", str(DAY), environment=at)
    assert (code, "landed" in said) == (0, True), said
    nightly = subprocess.run(
        [sys.executable, "-m", "cli", "mine", "--business-date", "newest", "--window", "365d"],
        env=on_s3.environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert nightly.returncode == 0, nightly.stderr
    assert "start spark" not in nightly.stderr
    version = DeltaTable(lake).version()
    found = "SELECT engine, invoices, lake, lake_version FROM mart.rule_run WHERE is_current"
    [(engine, _, read, read_at)] = rows(on_s3.mart.owner_dsn, found)
    assert (engine, read, read_at) == ("eclat", lake, version)

    current = current.model_copy(update={"lake_kept_days": 200})
    bounds, old = look(current)
    assert prune(current, bounds).lake == old.lake > 0
    assert verify(current, wait_seconds=0).equal
    note = command("watch", "--once", environment=at)[1]
    assert f"lake is at {lake}" in note.replace("\n", " ")


@pytest.mark.stack
@pytest.mark.spark
def test_a_storage_that_is_unavailable_is_waited_for_and_a_lost_answer_lands_nothing_twice(on_s3, proxy, tmp_path):
    """The lost answer is the commit's own: it is there, the job is told of none, and its second try must see it."""
    lake = on_s3.settings.lake
    records = encode(of_few_dates(300, customers=40, seed=72))
    job_environment = {**on_s3.environment(), "AWS_ENDPOINT_URL": proxy.endpoint, "LANDING_TRIGGER_SECONDS": "1"}
    lost = []

    def lose_once(method: str, path: str) -> str | None:
        if method == "PUT" and "_delta_log" in path and path.endswith(".json") and not lost:
            lost.append(path)
            return "lose the answer"
        return None

    def unavailable(method: str, path: str) -> str:
        return "hang up"

    send(on_s3.bootstrap_servers, on_s3.topic, records[:100])
    with running(job_environment, tmp_path / "log", "--only", "land") as job:
        job.wait_for('"event": "landed"')
        proxy.rule = lose_once
        send(on_s3.bootstrap_servers, on_s3.topic, records[100:200])
        job.wait_for('"event": "landed"', times=2)
        assert lost
        proxy.rule = unavailable
        send(on_s3.bootstrap_servers, on_s3.topic, records[200:])
        job.wait_for('"event": "waiting"')
        proxy.rule = lambda method, path: None
        job.wait_for('"event": "landed"', times=3)
        while lake_rows.counts(lake)[0] < 300:
            assert job.process.poll() is None, job.text()[-3000:]
        assert job.stop() == 0
        said = job.text()
    assert lake_rows.counts(lake) == (300, 300)
    topic = describe_topic(Brokers(on_s3.bootstrap_servers, 30), on_s3.topic)
    assert read_next_offsets(DeltaTable(lake), topic, [0, 1]) == topic.end_offsets
    waiting = next(text for text in said.splitlines() if '"waiting"' in text)
    assert f"the lake at {lake} is unavailable: " in waiting
    assert SECRET not in said


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidAccessKeyId", r"refuses the login \(InvalidAccessKeyId\): check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", r"refuses the login \(SignatureDoesNotMatch\)"),
        (403, "AccessDenied", "refuses the login"),
        (403, "RequestTimeTooSkewed", "refuses this machine's clock .* more than 15 minutes off"),
        (404, "NoSuchBucket", "has no such bucket"),
        (400, "AuthorizationHeaderMalformed", "set AWS_REGION to the bucket's"),
        (301, "PermanentRedirect", "set AWS_REGION to the bucket's"),
    ],
)
def test_a_refusal_is_one_line_with_the_fix_and_without_a_secret(lake, proxy, monkeypatch, status, code, says):
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.rule = lambda method, path: (status, refused(code))
    for touch in (open_lake, existing_lake, lake_exists, lambda lake: compact(lake, 1)):
        with pytest.raises(StreamingError, match=says) as error:
            touch(lake)
        assert "\n" not in str(error.value)
        assert SECRET not in str(error.value)
    exit_code, said = command("mine", "--business-date", "newest")
    assert exit_code == 1
    assert SECRET not in said


def test_what_is_unavailable_ends_a_command_with_4_and_wrong_settings_with_1(lake, proxy, monkeypatch):
    open_lake(lake)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.rule = lambda method, path: (503, refused("SlowDown"))
    with pytest.raises(UnavailableError, match="is unavailable: SlowDown"):
        existing_lake(lake)
    for arguments in (["compact"], ["mine", "--business-date", "newest"]):
        code, said = command(*arguments)
        assert (code, "is unavailable: SlowDown" in " ".join(said.split())) == (4, True), said
    proxy.rule = lambda method, path: None
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(StreamingError, match=r"would be asked without TLS: .*AWS_ALLOW_HTTP=true"):
        existing_lake(lake)


def test_eight_writers_at_once_lose_no_commit_whatever_the_environment_says(lake, monkeypatch):
    monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    open_lake(lake)
    topics = [Topic(f"t{number}", "id", {0: 0}, {0: 1}) for number in range(8)]
    with ThreadPoolExecutor(8) as writers:  # each with a handle of its own, at the very version of the others
        landed = list(
            writers.map(lambda topic, table: land_batch(table, topic, batch(valid(0))), topics,
                        [existing_lake(lake) for _ in topics])
        )  # fmt: skip
    assert [done.rows for done in landed] == [1] * 8
    assert sorted(done.version for done in landed) == list(range(1, 9))
    assert lake_rows.query(lake, "SELECT count(*), count(DISTINCT topic) FROM invoices") == [(8, 8)]
    assert all(read_next_offsets(existing_lake(lake), topic, [0]) == {0: 1} for topic in topics)
