"""World: the torture's own Kafka and PostgreSQL, a line for each scenario, and the ways to be cruel to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from psycopg2 import sql

import stack
from conf.kafka import Brokers
from lake.table import read_positions
from mart.migrate import migrate
from sql import one_row, statement
from stack import database
from topic.describe import describe_topic
from torture.check import differences
from torture.oracle import Acknowledged, expected
from torture.traffic import Message

ROOT = Path(__file__).parents[1]
PARTITIONS = 2
_LIFE_SECONDS = 300


class TortureError(Exception):
    """A scenario could not be played to its end; the message says what did not happen."""


@dataclass
class Line:
    """One scenario's line: a topic, a mart and a lake of its own, and every record that the broker acknowledged."""

    world: World
    topic: str
    database: str
    home: Path
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unread: int = 0
    """Offsets that no reader gets a record of: what a transaction took back, and its mark in each partition."""
    kills: Counter[str] = field(default_factory=Counter)
    _lives: int = 0

    def dsn(self, role: str) -> str:
        """Of the writer, the owner or the superuser."""
        state = self.world.state
        server = {"writer": state.mart_dsn, "owner": state.mart_owner_dsn, "superuser": state.superuser_dsn}[role]
        assert server is not None  # noqa: S101
        return urlunsplit(urlsplit(server)._replace(path=f"/{self.database}"))

    @property
    def lake(self) -> str:
        return str(self.home / "lake" / "invoices")

    @property
    def checkpoint(self) -> Path:
        return self.home / "checkpoint"

    def environment(self) -> dict[str, str]:
        """The settings of this line for a process of its own."""
        return {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.world.bootstrap,
            "KAFKA_TOPIC": self.topic,
            "MART_DSN": self.dsn("writer"),
            "MART_OWNER_DSN": self.dsn("owner"),
            "MART_HOME": str(self.home),
            "LANDING_TRIGGER_SECONDS": "5",
            "KAFKA_TIMEOUT_SECONDS": "20",
            "OUTAGE_PATIENCE_SECONDS": "240",
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }

    def send(self, messages: Sequence[Message]) -> None:
        """Put messages on the topic, in order, and wait until all are acknowledged."""
        with self.producing() as send:
            send(messages)

    @contextmanager
    def producing(self) -> Iterator[Sender]:
        """A producer that outlives broker restarts; at the end all that it was given is acknowledged."""
        producer = KafkaProducer(
            bootstrap_servers=self.world.bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_request_size=1_500_000,
            delivery_timeout_ms=240_000,
            max_block_ms=120_000,
            linger_ms=5,
        )
        sender = Sender(self, producer)
        try:
            yield sender
            sender.wait()
        finally:
            producer.close(timeout=10)

    def take_any_timestamp(self) -> None:
        """As brokers before Kafka 4 do; later ones refuse what is more than an hour ahead, unless they are told."""
        admin = KafkaAdminClient(bootstrap_servers=self.world.bootstrap)
        try:
            admin.alter_configs(
                [ConfigResource("topic", self.topic, {"message.timestamp.after.max.ms": str(2**63 - 1)})]
            )
        finally:
            admin.close()

    @contextmanager
    def transacting(self) -> Iterator[Transact]:
        """A producer of transactions."""
        producer = KafkaProducer(
            bootstrap_servers=self.world.bootstrap,
            acks="all",
            enable_idempotence=True,
            transactional_id=self.topic,
        )
        try:
            producer.init_transactions()
            yield Transact(self, producer)
        finally:
            producer.close(timeout=10)

    def life(self, module: str, *arguments: str) -> Life:
        """Start a process of the line: `torture.driver`, `torture.job`, or `streaming`."""
        self._lives += 1
        return Life(self, module, arguments, self.home / "log" / f"life-{self._lives}.log")

    def until_killed(self, point: str, module: str, *arguments: str) -> int:
        """Live once; returns the exit code, and counts a kill by the point's name."""
        with self.life(module, *arguments) as life:
            code = life.wait()
        if code == -signal.SIGKILL:
            self.kills[point] += 1
        elif code:
            raise TortureError(f"a life to be killed {point} ended with {code} by itself: {life.tail()}")
        return code

    def query(self, name: str, role: str = "owner") -> tuple[Any, ...]:
        """The one row of a statement of sql/torture.sql."""
        with closing(psycopg2.connect(self.dsn(role))) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement(f"torture/{name}"))
            return one_row(cursor)

    def applied(self) -> int:
        """Records that the mart's positions have passed."""
        with suppress(psycopg2.Error):
            return int(self.query("applied")[0])
        return -1

    def landed(self) -> int:
        """Records that the lake's positions have passed."""
        topic = describe_topic(Brokers(self.world.bootstrap, 20), self.topic)
        return sum(read_positions(DeltaTable(self.lake), topic, topic.end_offsets).values())

    def end_offsets(self) -> dict[int, int]:
        """Of the topic, as the broker says them."""
        consumer = KafkaConsumer(bootstrap_servers=self.world.bootstrap, enable_auto_commit=False)
        try:
            partitions = consumer.partitions_for_topic(self.topic) or set()
            ends = consumer.end_offsets([TopicPartition(self.topic, p) for p in partitions])
        finally:
            consumer.close()
        return {p.partition: offset for p, offset in ends.items()}

    def differences(self, times_read: int | None = 1, kept: Sequence[Acknowledged] | None = None) -> list[str]:
        """Mart and lake against the oracle of what was acknowledged (or of those `kept`)."""
        ends = self.end_offsets()
        found = differences(
            self.dsn("owner"), self.lake, expected(self.acknowledged if kept is None else kept), ends, times_read
        )
        if kept is None and sum(ends.values()) != len(self.acknowledged) + self.unread:
            found.append(
                f"the broker ends at {sum(ends.values())}, {len(self.acknowledged)} records were acknowledged, "
                f"{self.unread} offsets have none"
            )
        return found

    def verified(self, seconds: float = _LIFE_SECONDS) -> list[str]:
        """`retail-mart verify`: no line if it finds mart and lake equal."""
        with self.life("cli", "verify") as life:
            return [] if life.wait(seconds) == 0 else [f"verify: {life.tail()}"]


class Sender:
    """Sends messages of one line, and notes where the broker put them."""

    def __init__(self, line: Line, producer: KafkaProducer) -> None:
        self._line, self._producer = line, producer
        self._waiting: list[tuple[Any, Message]] = []

    def __call__(self, messages: Sequence[Message]) -> None:
        for message in messages:
            future = self._producer.send(
                self._line.topic, key=message.key, value=message.value, timestamp_ms=message.timestamp_ms
            )
            self._waiting.append((future, message))

    def wait(self) -> None:
        """Until the broker has them all."""
        self._producer.flush(timeout=240)
        for future, message in self._waiting:
            metadata = future.get(timeout=240)
            found = Acknowledged(metadata.partition, metadata.offset, message, metadata.timestamp)
            self._line.acknowledged.append(found)
        self._waiting.clear()


class Transact:
    """Sends messages of one line in transactions of their own, and notes what of it readers get."""

    def __init__(self, line: Line, producer: KafkaProducer) -> None:
        self._line, self._producer = line, producer

    def __call__(self, messages: Sequence[Message], commit: bool) -> None:
        self._producer.begin_transaction()
        futures = [self._producer.send(self._line.topic, key=m.key, value=m.value) for m in messages]
        self._producer.flush(timeout=240)
        placed = [future.get(timeout=240) for future in futures]
        self._line.unread += len({metadata.partition for metadata in placed})
        if not commit:
            self._producer.abort_transaction()
            self._line.unread += len(messages)
            return
        self._producer.commit_transaction()
        for metadata, message in zip(placed, messages, strict=True):
            self._line.acknowledged.append(Acknowledged(metadata.partition, metadata.offset, message))


class Life:
    """One process of a line, its own process group; gone at the end of the block."""

    def __init__(self, line: Line, module: str, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=line.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9 of the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the whole group."""
        os.killpg(self.process.pid, number)

    def stopped(self) -> bool:
        """Whether the process is held by SIGSTOP."""
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return " / ".join(self.text().strip().splitlines()[-3:])[-600:]

    def wait(self, seconds: float = _LIFE_SECONDS) -> int:
        """The exit code; negative: the signal that ended it."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TortureError(f"a process did not end within {seconds} s: {self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM to the driver alone, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait_for(self, words: str, seconds: float = _LIFE_SECONDS) -> None:
        """Until the log says it."""
        wait_until(lambda: words in self.text(), seconds, f"no {words!r} in its log", self)


@dataclass
class World:
    """The servers, in a home of their own."""

    home: Path
    state: stack.State

    @property
    def bootstrap(self) -> str:
        assert self.state.kafka_bootstrap_servers  # noqa: S101
        return self.state.kafka_bootstrap_servers

    @contextmanager
    def line(self, tablespace: Path | None = None) -> Iterator[Line]:
        """An empty topic, a migrated mart and no lake yet; all gone at the end."""
        name = f"torture_{uuid.uuid4().hex[:10]}"
        stack.ensure_topic(self.bootstrap, name, PARTITIONS)
        line = Line(self, name, name, self.home / "lines" / name)
        with self._superuser() as cursor:
            database.create_database(cursor, name)
            if tablespace is not None:
                cursor.execute(
                    sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(
                        sql.Identifier(name), sql.Literal(str(tablespace))
                    )
                )
                cursor.execute(
                    sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format(sql.Identifier(name), sql.Identifier(name))
                )
        try:
            with closing(psycopg2.connect(line.dsn("owner"))) as owner:
                migrate(owner)
            yield line
        finally:
            with self._superuser() as cursor:
                cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
                if tablespace is not None:
                    cursor.execute(sql.SQL("DROP TABLESPACE {}").format(sql.Identifier(name)))
            stack.delete_topic(self.bootstrap, name)

    def up(self) -> None:
        """Start what does not run, on its last port. Raises TortureError if it comes back on another."""
        before, self.state = self.state, stack.up(self.home)
        for address in ("kafka_bootstrap_servers", "mart_dsn"):
            if getattr(self.state, address) != getattr(before, address):
                raise TortureError(f"a server came back on another port: {address} has changed")

    def kill_broker(self) -> None:
        """kill -9."""
        stack.kill_broker(self.home)

    def stop_broker(self) -> None:
        """A clean stop."""
        stack.stop_broker(self.home)

    def stop_database_immediately(self) -> None:
        """PostgreSQL's immediate shutdown: no checkpoint, every session cut; it recovers at its next start."""
        [pid] = [server.pid for server in stack.status(self.home) if server.name == database.NAME]
        if pid is not None:
            process = psutil.Process(pid)
            process.send_signal(signal.SIGQUIT)
            psutil.wait_procs([process], timeout=60)

    def kill_database(self) -> None:
        """kill -9 of the postmaster."""
        stack.kill_database(self.home)

    def terminate_backends(self, line: Line) -> int:
        """End every session of a line's mart; returns how many."""
        with self._superuser() as cursor:
            cursor.execute(statement("torture/terminate_backends"), {"database": line.database})
            return int(one_row(cursor)[0])

    def set_read_only(self, line: Line, read_only: bool) -> None:
        """Whether sessions of a line's mart that begin from now on may write."""
        setting = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        with self._superuser() as cursor:
            cursor.execute(sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(line.database), sql.SQL(setting)))

    def recreate_topic(self, line: Line) -> None:
        """Delete the topic and create it anew, empty, under another id."""
        stack.delete_topic(self.bootstrap, line.topic)
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            wait_until(lambda: line.topic not in admin.list_topics(), 60, "the topic is not deleted")
        finally:
            admin.close()
        stack.ensure_topic(self.bootstrap, line.topic, PARTITIONS)

    def add_partitions(self, line: Line, partitions: int) -> None:
        """So that the topic has so many."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_partitions({line.topic: partitions})
            wait_until(lambda: len(line.end_offsets()) == partitions, 60, "the partitions are not there")
        finally:
            admin.close()

    def delete_records(self, line: Line, before: dict[int, int]) -> None:
        """As retention does: the records before these offsets are gone."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.delete_records({TopicPartition(line.topic, p): offset for p, offset in before.items()})
        finally:
            admin.close()

    @contextmanager
    def _superuser(self) -> Iterator[psycopg2.extensions.cursor]:
        assert self.state.superuser_dsn  # noqa: S101
        with closing(psycopg2.connect(self.state.superuser_dsn)) as connection:
            connection.autocommit = True
            yield connection.cursor()


@contextmanager
def world(home: Path) -> Iterator[World]:
    """Servers made anew in `home`, stopped at the end."""
    stack.reset(home)
    try:
        yield World(home, stack.up(home))
    finally:
        stack.down(home)


@contextmanager
def flowing(line: Line, messages: Sequence[Message], per_second: int) -> Iterator[threading.Event]:
    """Send messages at a pace meanwhile; at the block's end all are sent and acknowledged."""
    failure: list[BaseException] = []
    sent_all = threading.Event()

    def send() -> None:
        try:
            with line.producing() as sender:
                step = max(1, per_second // 20)
                for at in range(0, len(messages), step):
                    sender(messages[at : at + step])
                    time.sleep(step / per_second)
        except BaseException as error:
            failure.append(error)
        sent_all.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent_all
    finally:
        thread.join()
    if failure:
        raise TortureError(f"the producer gave up: {failure[0]!r}") from failure[0]


def wait_until(condition, seconds: float, otherwise: str, life: Life | None = None) -> None:  # type: ignore[no-untyped-def]
    """Poll a condition. Raises TortureError with `otherwise` after so long, or when the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = life is not None and life.process.poll() is not None
        if ended and not condition():
            raise TortureError(f"{otherwise}: the process ended with {life.process.returncode}: {life.tail()}")  # type: ignore[union-attr]
        if time.monotonic() > deadline:
            raise TortureError(f"{otherwise} within {seconds} s{': ' + life.tail() if life else ''}")
        time.sleep(0.1)
