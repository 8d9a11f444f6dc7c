"""`retail-mart …` as a user runs it, against a real broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jsonschema
import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition

import conf
import stack
from producer.csv_invoices import csv_files, read_invoices
from producer.generate import Options, generate
from producer.shop import FIRST_CUSTOMER, customers, generator
from tests.builders.waiting import until

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = json.loads((Path(conf.__file__).parent / "invoice_event.schema.json").read_text())


class Record(NamedTuple):
    key: str
    partition: int
    timestamp: float
    event: dict[str, Any]


class Shell:
    """Runs the producer with a home and a topic of its own."""

    def __init__(self, home: Path, bootstrap: str | None = None, topic: str = "invoices") -> None:
        self.home, self.bootstrap, self.topic = home, bootstrap, topic
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "MART_"))}
        self.environment |= {"MART_HOME": str(home), "KAFKA_TOPIC": topic}
        if bootstrap:
            self.environment["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def records(self) -> list[Record]:
        """All records of the topic, a partition after the other."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        try:
            partitions = [TopicPartition(self.topic, p) for p in consumer.partitions_for_topic(self.topic) or ()]
            ends = consumer.end_offsets(partitions)
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            found: list[Record] = []
            while any(consumer.position(p) < end for p, end in ends.items()):
                for p, batch in consumer.poll(timeout_ms=1_000).items():
                    found += [
                        Record(r.key.decode(), p.partition, r.timestamp / 1000, json.loads(r.value)) for r in batch
                    ]
            return found
        finally:
            consumer.close()

    def invoices(self) -> Counter[str]:
        return Counter(r.event["invoice"] for r in self.records())


@pytest.fixture
def shell(servers: stack.State, fresh_topic: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", servers.kafka_bootstrap_servers, fresh_topic)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of 300 invoices each."""
    folder = tmp_path_factory.mktemp("shop")
    generate(Options(folder, days=4, invoices_per_day=300))
    return folder


def invoice_numbers(folder: Path) -> set[str]:
    return {i.number for file in csv_files([folder]) for i in read_invoices(file)[0]}


def saved_invoices(shell: Shell) -> int:
    """How far into its file the replay's saved position is."""
    files = list((shell.home / "producer").glob("replay-*.json"))
    return json.loads(files[0].read_text())["invoices"] if files else 0


@pytest.mark.stack
def test_replay_sends_each_invoice_once_as_the_contract_says(shell: Shell) -> None:
    before = time.time()
    done = shell.run("replay", GOLDEN)
    after = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 invoices (25 lines) acknowledged by" in done.stdout
    assert f"7 lines rejected: see {shell.home / 'producer' / 'rejects.csv'}" in done.stdout
    assert len((shell.home / "producer" / "rejects.csv").read_text().splitlines()) == 8
    records = shell.records()
    expected = {i.number: i for file in csv_files([GOLDEN]) for i in read_invoices(file)[0]}
    assert Counter(r.event["invoice"] for r in records) == Counter(list(expected))
    for r in records:
        jsonschema.validate(r.event, SCHEMA)
        invoice = expected[r.event["invoice"]]
        assert r.key == (invoice.customer_id or invoice.number)
        assert [tuple(x.values()) for x in r.event["lines"]] == [tuple(x) for x in invoice.lines]
        assert before - 1 <= r.timestamp <= after + 1


@pytest.mark.stack
def test_one_customers_invoices_stay_in_order(shell: Shell, shop: Path) -> None:
    assert shell.run("replay", shop).returncode == 0
    records = shell.records()
    assert len(records) == 1_200
    assert len({r.partition for r in records}) == 2
    last: dict[str, str] = {}
    for r in records:
        assert last.get(r.key, "") < r.event["invoice"]
        last[r.key] = r.event["invoice"]


@pytest.mark.stack
def test_a_killed_replay_resumes_and_loses_nothing(shell: Shell, shop: Path) -> None:
    process = shell.start("replay", shop, "--rate", "300/s")
    until(lambda: saved_invoices(shell) >= 100)
    process.kill()
    process.communicate()
    sent_before = sum(shell.invoices().values())
    assert 100 <= sent_before < 1_200
    done = shell.run("replay", shop, "--resume")
    assert done.returncode == 0, done.stderr
    found = shell.invoices()
    assert set(found) == invoice_numbers(shop)
    assert sum(found.values()) < sent_before + 1_200  # it went on, and did not begin anew
    again = shell.run("replay", shop, "--resume")
    assert "0 invoices (0 lines)" in again.stdout
    assert shell.invoices() == found


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_says_what_was_sent(shell: Shell, shop: Path, number: int) -> None:
    process = shell.start("replay", shop, "--rate", "300/s")
    until(lambda: saved_invoices(shell) >= 50)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted: continue with --resume" in out
    sent = sum(shell.invoices().values())
    assert out.startswith(f"{sent:,} invoices")
    assert shell.run("replay", shop, "--resume").returncode == 0
    assert shell.invoices() == Counter(dict.fromkeys(invoice_numbers(shop), 1))  # flushed: nothing twice


@pytest.mark.stack
def test_a_replay_that_waits_for_the_shops_clock_can_be_stopped(shell: Shell, shop: Path) -> None:
    process = shell.start("replay", shop, "--speed", "1x")
    until(lambda: saved_invoices(shell) >= 1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.startswith("1 invoice (")


@pytest.mark.stack
def test_shifted_to_today_and_round_again(shell: Shell, shop: Path) -> None:
    today = datetime.now(ZoneInfo("Asia/Jakarta")).date()
    done = shell.run("replay", shop, "--shift-to", "today", "--limit", "1200")
    assert done.returncode == 0, done.stderr
    days = {date.fromisoformat(r.event["invoice_date"][:10]) for r in shell.records()}
    assert max(days) - timedelta(days=1) <= today <= max(days) + timedelta(days=1)
    assert len(days) == 4

    done = shell.run("replay", shop, "--loop", "--limit", "3000", "--shift-to", "2020-01-04")
    assert done.returncode == 0, done.stderr
    assert "ahead of today" not in done.stderr
    rounds = Counter(
        (r.event["invoice"][14:], r.event["invoice_date"][:10])
        for r in shell.records()
        if r.event["invoice_date"] < "2021"
    )
    assert rounds == {
        ("", "2020-01-01"): 300, ("", "2020-01-02"): 300, ("", "2020-01-03"): 300, ("", "2020-01-04"): 300,
        ("-2", "2020-01-05"): 300, ("-2", "2020-01-06"): 300, ("-2", "2020-01-07"): 300, ("-2", "2020-01-08"): 300,
        ("-3", "2020-01-09"): 300, ("-3", "2020-01-10"): 300,
    }  # fmt: skip


@pytest.mark.stack
def test_a_missing_topic_is_said_before_anything_is_sent(shell: Shell, shop: Path) -> None:
    missing = Shell(shell.home, shell.bootstrap, "no-such-topic")
    for command in (["replay", shop], ["live", "--duration", 1]):
        done = missing.run(*command)
        assert done.returncode == 1
        assert f"Kafka at {shell.bootstrap} has no topic 'no-such-topic'" in done.stderr
        assert "retail-mart up" in done.stderr
        assert "--create --topic no-such-topic" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_broker_that_is_unavailable(tmp_path: Path, shop: Path) -> None:
    with socket.socket() as taken:  # bound, so that it stays free; not listening, so that nobody answers
        taken.bind(("127.0.0.1", 0))
        shell = Shell(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}")
        shell.environment["KAFKA_TIMEOUT_SECONDS"] = "1"
        for command in (["replay", shop], ["live"]):
            done = shell.run(*command)
            assert done.returncode == 4
            assert f"Kafka at {shell.bootstrap} is unavailable" in done.stderr
            assert "retail-mart up" in done.stderr
            assert "Traceback" not in done.stderr
            assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def broker(servers: stack.State, stack_home: Path) -> Iterator[psutil.Process]:
    """The broker's process of now (another test may have killed an earlier one), running again after the test."""
    running = stack.read_state(stack_home).broker
    if not servers.broker or running is None:
        pytest.skip("only an embedded broker can be stopped")
    process = psutil.Process(running.pid)
    yield process
    process.resume()


@pytest.mark.stack
def test_a_broker_that_becomes_unavailable_in_the_middle(shell: Shell, shop: Path, broker: psutil.Process) -> None:
    shell.environment["KAFKA_TIMEOUT_SECONDS"] = "2"
    process = shell.start("replay", shop, "--rate", "300/s")
    until(lambda: saved_invoices(shell) >= 50)
    broker.suspend()
    out, err = process.communicate(timeout=60)
    broker.resume()
    assert (process.returncode, out) == (4, ""), err
    assert f"Kafka at {shell.bootstrap} is unavailable" in err
    assert "\nacknowledged: " in err
    assert "Traceback" not in err
    shell.environment["KAFKA_TIMEOUT_SECONDS"] = "30"
    done = shell.run("replay", shop, "--resume")
    assert done.returncode == 0, done.stderr
    assert set(shell.invoices()) == invoice_numbers(shop)


def test_no_kafka_at_all(tmp_path: Path, shop: Path) -> None:
    done = Shell(tmp_path).run("replay", shop)
    assert done.returncode == 1
    assert "retail-mart up" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "nowhere"], "nowhere: no such file or folder"),
        (["replay", GOLDEN, "--rate", "fast"], "--rate 'fast' is not a valid rate"),
        (["replay", GOLDEN, "--speed", "0x"], "--speed '0x' is not a valid speed"),
        (["replay", GOLDEN, "--speed", "2x", "--rate", "1/s"], "give one of the two"),
        (["replay", GOLDEN, "--shift-to", "tomorrow"], "--shift-to 'tomorrow' is not a date"),
        (["replay", GOLDEN, "--resume"], "nothing to resume"),
        (["replay", GOLDEN.parent / "test_commands.py"], "the header lacks the columns"),
        (["generate", "--products", "3"], "--products 3: give a number from 7"),
        (["generate", "--start-date", "soon"], "--start-date 'soon' is not a date"),
        (["generate", "--until", "1/2/2024"], "--until '1/2/2024' is not a date"),
        (["generate", "--until", "today", "--start-date", "2024-01-01"], "give one of the two"),
        (["live", "--rate", "0/s"], "--rate '0/s' is not a valid rate"),
        (["live", "--burst", "-1"], "--burst -1.0: give a number of seconds above 0"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[object], message: str) -> None:
    done = Shell(tmp_path, "127.0.0.1:1").run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.stack
def test_live_sells_now_with_bursts_of_the_lapsed(shell: Shell) -> None:
    before = datetime.now(ZoneInfo("Asia/Jakarta")).replace(tzinfo=None, microsecond=0)
    arguments = ["live", "--rate", "50/s", "--no-rhythm", "--duration", 3, "--burst", 1, "--burst-customers", 20]
    for _ in range(2):
        done = shell.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
    after = datetime.now(ZoneInfo("Asia/Jakarta")).replace(tzinfo=None)
    records = shell.records()
    assert set(Counter(r.event["invoice"] for r in records).values()) == {1}  # the same seed, other numbers
    people = customers(6_001, generator(42, 0))
    lapsed = {str(FIRST_CUSTOMER + i) for i in people.lapsed().tolist()}
    back = Counter(r.key for r in records if r.key in lapsed)
    assert len(back) == 40  # two bursts of 20, the same in both runs
    assert 150 < sum(1 for r in records if r.key not in lapsed) <= 304  # a slow machine sells less
    for r in records:
        jsonschema.validate(r.event, SCHEMA)
        assert before <= datetime.fromisoformat(r.event["invoice_date"]) <= after


@pytest.mark.stack
def test_live_until_interrupted(shell: Shell) -> None:
    process = shell.start("live", "--rate", "20/s", "--no-rhythm")
    until(lambda: bool(shell.records()))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out.startswith(f"{len(shell.records()):,} invoices")
