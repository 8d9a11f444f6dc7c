"""The stack's life: up, down, up again, and up after what should not have happened."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import kafka
import psutil
import psycopg2
import pytest

import stack
from conf.errors import UnavailableError
from conf.settings import STATE_FILE_NAME
from stack import broker, database
from tests.builders.disk import wait_for_the_disk
from tests.builders.waiting import until

pytestmark = pytest.mark.stack

TOPIC = "stack-test"


@pytest.fixture
def home(tmp_path):
    """An own stack's home, stopped after the test."""
    home = tmp_path / "Läden, a home"  # neither a space nor a letter beyond ASCII must matter
    yield home
    stack.down(home)


def put(state: stack.State, value: bytes) -> None:
    """One message into the topic and one row into the database, both acknowledged."""
    producer = kafka.KafkaProducer(bootstrap_servers=state.kafka_bootstrap_servers, acks="all")
    producer.send(TOPIC, value, partition=0).get(timeout=30)
    producer.close()
    with closing(psycopg2.connect(state.mart_owner_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept (value bytea)")
        cursor.execute("INSERT INTO kept VALUES (%s)", (value,))


def kept(state: stack.State) -> tuple[list[bytes], list[bytes]]:
    """What the topic and the database hold, in the order in which it was put."""
    consumer = kafka.KafkaConsumer(bootstrap_servers=state.kafka_bootstrap_servers)
    partition = kafka.TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    messages: list[bytes] = []
    while consumer.position(partition) < end:
        for records in consumer.poll(timeout_ms=1000).values():
            messages += [record.value for record in records]
    consumer.close()
    with closing(psycopg2.connect(state.mart_owner_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM kept ORDER BY value")
        rows = [bytes(value) for (value,) in cursor.fetchall()]
    return messages, rows


def pids(home: Path) -> list[int | None]:
    return [server.pid for server in stack.status(home)]


def test_down_keeps_data_addresses_and_passwords(home):
    first = stack.up(home, topic=TOPIC)
    put(first, b"1")
    stack.down(home)
    assert [s.running for s in stack.status(home)] == [False, False]
    assert stack.read_state(home).environment() == {}  # whoever asks now is told to start the stack
    again = stack.up(home, topic=TOPIC)
    assert again.environment() == first.environment()
    assert kept(again) == ([b"1"], [b"1"])


def test_up_is_idempotent_and_starts_only_what_is_missing(home):
    state = stack.up(home, topic=TOPIC)
    both = pids(home)
    assert stack.up(home, topic=TOPIC) == state
    assert pids(home) == both
    assert stack.stop_broker(home)
    assert not stack.stop_broker(home)
    stack.up(home)
    assert pids(home)[0] not in (None, both[0])
    assert pids(home)[1] == both[1]


def test_kill_nine_of_both_loses_nothing(home):
    state = stack.up(home, topic=TOPIC)
    for n in range(3):
        put(state, b"%d" % n)
        assert stack.kill_broker(home)
        assert stack.kill_database(home)
        assert pids(home) == [None, None]
        assert stack.up(home).environment() == state.environment()
    assert kept(state) == ([b"0", b"1", b"2"], [b"0", b"1", b"2"])


def test_taken_ports_are_replaced(home):
    state = stack.up(home, topic=TOPIC)
    put(state, b"1")
    old = stack.read_state(home)
    stack.down(home)
    _, controller = broker._last_ports(home.resolve())
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for squatter, port in ((a, old.broker.port), (b, controller), (c, old.database.port)):
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closing connections do not matter
            squatter.bind(("127.0.0.1", port))
            squatter.listen()
        moved = stack.up(home)
        assert kept(moved) == ([b"1"], [b"1"])
    assert moved.broker.port != old.broker.port
    assert moved.database.port != old.database.port


def test_a_lost_or_torn_state_file_finds_the_running_servers_again(home):
    state = stack.up(home, topic=TOPIC)
    for text in (None, "", "{", '{"broker": 1}'):
        file = home / STATE_FILE_NAME
        file.unlink() if text is None else file.write_text(text)
        assert stack.up(home) == state


def test_a_pid_that_another_process_has_today_is_no_server(home):
    stack.up(home, topic=TOPIC)
    stack.kill_broker(home)
    stack.kill_database(home)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        try:
            state = json.loads((home / STATE_FILE_NAME).read_text())
            for server in ("broker", "database"):
                state[server]["pid"] = other.pid
                state[server]["created"] = psutil.Process(other.pid).create_time()
            (home / STATE_FILE_NAME).write_text(json.dumps(state))
            lock = database._data(home.resolve()) / "postmaster.pid"
            owner = lock.stat()
            lines = lock.read_text().split("\n")
            lock.write_text("\n".join([str(other.pid), *lines[1:]]))
            assert owner.st_uid == lock.stat().st_uid
            assert pids(home) == [None, None]
            stack.up(home)
            assert None not in pids(home)
            assert other.pid not in pids(home)
            stack.down(home)
            assert other.poll() is None  # it was left alone
        finally:
            other.kill()


def test_two_ups_at_once_start_one_stack(home, monkeypatch):
    monkeypatch.setenv("MART_HOME", str(home))
    ups = [subprocess.Popen([sys.executable, "-m", "cli", "up"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [up.communicate(timeout=120)[0] for up in ups]
    assert [up.returncode for up in ups] == [0, 0]
    assert sorted(output.count("is already running") for output in outputs) == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 0.7, 0.9, 1.1, 1.5, 2.2])
def test_an_up_that_is_killed_is_no_obstacle(home, monkeypatch, seconds):
    monkeypatch.setenv("MART_HOME", str(home))
    first = subprocess.Popen([sys.executable, "-m", "cli", "up"], stdout=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.wait(seconds)
    first.kill()
    first.wait()
    state = stack.up(home, topic=TOPIC)
    put(state, b"1")
    assert kept(state) == ([b"1"], [b"1"])


def test_what_a_killed_start_left_is_deleted(home):
    for server in ("postgres", "kafka"):
        (home / server / "new-12ab").mkdir(parents=True)
        (home / server / "new-12ab" / "password").write_text("secret")
    (home / "kafka" / "classes.jsa").write_text("half of it")
    stack.up(home)
    assert [*home.glob("*/new-*")] == []
    stack.down(home)
    assert [file for file in home.glob("kafka/classes.jsa") if file.read_text() == "half of it"] == []


def test_reset_deletes_the_data_and_leaves_what_it_does_not_know(home):
    state = stack.up(home, topic=TOPIC)
    put(state, b"1")
    (home / "lake" / "invoices").mkdir(parents=True)
    (home / "own notes").write_text("mine")
    stack.reset(home)
    assert sorted(p.name for p in home.iterdir()) == ["own notes", "stack.lock"]
    fresh = stack.up(home, topic=TOPIC)
    assert fresh.mart_dsn.split("@")[0] != state.mart_dsn.split("@")[0]  # a new password
    with closing(psycopg2.connect(fresh.mart_owner_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'")
        assert cursor.fetchone() == (0,)


def test_a_start_that_fails_shows_the_log_and_keeps_the_other_server(home):
    stack.up(home)
    stack.stop_database(home)
    version = database._data(home.resolve()) / "PG_VERSION"
    version.write_text("9.6\n")
    with pytest.raises(stack.StackError, match="not compatible"):
        stack.up(home)
    assert [s.running for s in stack.status(home)] == [True, False]
    assert list(stack.read_state(home).environment()) == ["KAFKA_BOOTSTRAP_SERVERS"]
    version.write_text("18\n")
    stack.up(home)
    assert [s.running for s in stack.status(home)] == [True, True]


def test_a_server_that_ignores_sigterm_is_killed(home):
    stack.up(home)
    for server in stack.status(home):
        psutil.Process(server.pid).suspend()
    for module in (broker, database):
        stops = tuple((number, 0.3) for number, _ in module._STOP)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_STOP", stops)
            assert module.stop(home.resolve())
    assert pids(home) == [None, None]
    assert signal.SIGKILL not in [number for number, _ in broker._STOP]
    stack.up(home)


def test_external_servers_are_used_and_none_is_started(servers, tmp_path):
    state = stack.up(
        tmp_path,
        topic=TOPIC,
        partitions=3,
        external_kafka=servers.kafka_bootstrap_servers,
        external_mart=servers.mart_dsn,
    )
    try:
        assert stack.ensure_topic(servers.kafka_bootstrap_servers, TOPIC, 1) == 3
        assert (state.kafka_bootstrap_servers, state.mart_dsn) == (servers.kafka_bootstrap_servers, servers.mart_dsn)
        assert pids(tmp_path) == [None, None]
        assert stack.read_state(tmp_path) == stack.State()
        assert not (tmp_path / "kafka").exists()
        assert not (tmp_path / "postgres").exists()
    finally:
        stack.delete_topic(servers.kafka_bootstrap_servers, TOPIC)


def test_an_external_kafka_that_is_unavailable_is_named(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=f"Kafka at {address} is unavailable"):
            stack.ensure_topic(address, TOPIC, 1, seconds=2)


def test_roles_and_settings_of_the_database(servers, fresh_mart, request):
    if request.config.getoption("--stack") == "external":
        pytest.skip("the embedded database's own promises")
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA mart CREATE TABLE t (id int)")
        cursor.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = %s", (fresh_mart.name,)
        )
        assert cursor.fetchone() == ("UTF8", "C")
    promised = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "track_commit_timestamp": "on",
        "listen_addresses": "127.0.0.1",
        "TimeZone": "UTC",
    }

    def kept() -> bool:
        with closing(psycopg2.connect(fresh_mart.owner_dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT name, setting FROM pg_settings")
            settings = dict(cursor.fetchall())
        return {name: settings[name] for name in promised} == promised

    wait_for_the_disk(servers.superuser_dsn, True)  # as it was started; the tests alone do without
    try:
        until(kept)
    finally:
        wait_for_the_disk(servers.superuser_dsn, False)
    for dsn in (fresh_mart.writer_dsn, fresh_mart.reader_dsn):
        with (
            closing(psycopg2.connect(dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute("SELECT * FROM mart.t")
    user, host = servers.mart_dsn.split("@")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(f"{user.rsplit(':', 1)[0]}:wrong@{host}")
    with pytest.raises(psycopg2.OperationalError, match="no password"):
        psycopg2.connect(f"{user.rsplit(':', 1)[0]}@{host}")


def test_a_fresh_topic_is_empty_and_alone(servers, fresh_topic):
    consumer = kafka.KafkaConsumer(bootstrap_servers=servers.kafka_bootstrap_servers)
    partitions = [kafka.TopicPartition(fresh_topic, p) for p in sorted(consumer.partitions_for_topic(fresh_topic))]
    assert len(partitions) == 2
    assert set(consumer.end_offsets(partitions).values()) == {0}
    consumer.close()
    stack.delete_topic(servers.kafka_bootstrap_servers, "never-existed")
