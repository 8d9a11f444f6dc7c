"""Pipeline: one scenario's topic, mart and lake, what is sent through them, and the processes at work on them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

import stack
from conf.kafka import Brokers
from lake.table import read_next_offsets
from sql import one_row, statement
from stack import database
from stack.command import Command, CommandError, wait_until
from topic.describe import describe_topic
from torture.check import differences
from torture.oracle import Acknowledged, expected
from torture.traffic import Message

PARTITIONS = 2
_BROKER_SECONDS = 240  # a producer outlives its restarts


@dataclass
class Pipeline:
    """One scenario's pipeline on the servers of `state`, and every record that the broker acknowledged."""

    state: stack.State
    name: str
    home: Path
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unread: int = 0
    """Offsets that no reader gets a record of: what a transaction took back, and its mark in each partition."""
    kills: Counter[str] = field(default_factory=Counter)
    _lives: int = 0

    @property
    def bootstrap(self) -> str:
        assert self.state.kafka_bootstrap_servers  # noqa: S101
        return self.state.kafka_bootstrap_servers

    def dsn(self, role: str = "owner") -> str:
        """Of the owner or the writer."""
        server = {"writer": self.state.mart_dsn, "owner": self.state.mart_owner_dsn}[role]
        return database.at(str(server), self.name)

    @property
    def lake(self) -> str:
        return str(self.home / "lake" / "invoices")

    @property
    def checkpoint(self) -> Path:
        return self.home / "checkpoint"

    def life(self, module: str, *arguments: str) -> Command:
        """Start a process of the pipeline: `torture.driver`, `torture.job`, or `cli`."""
        self._lives += 1
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_TOPIC": self.name,
            "MART_DSN": self.dsn("writer"),
            "MART_OWNER_DSN": self.dsn("owner"),
            "MART_HOME": str(self.home),
            "LANDING_TRIGGER_SECONDS": "5",
            "KAFKA_TIMEOUT_SECONDS": "20",
            "OUTAGE_PATIENCE_SECONDS": "240",
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }
        log = self.home / "log" / f"life-{self._lives}.log"
        return Command(module, *arguments, log=log, environment=os.environ | settings)

    def until_killed(self, point: str, module: str, *arguments: str) -> None:
        """Run once, and count it if it is killed at the point; it may reach the topic's end first."""
        with self.life(module, *arguments) as life:
            code = life.wait()
            if code == -signal.SIGKILL:
                self.kills[point] += 1
            elif code:
                raise CommandError(f"a life to be killed {point} ended with {code} by itself: {life.tail()}")

    def send(self, messages: Sequence[Message]) -> None:
        """Put messages on the topic, in order, and wait until all are acknowledged."""
        with self.producing() as sender:
            sender(messages)

    @contextmanager
    def producing(self, **settings: Any) -> Iterator[Sender]:
        """A producer that survives broker restarts; at the end everything given to it is acknowledged."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_request_size=1_500_000,
            delivery_timeout_ms=_BROKER_SECONDS * 1000,
            max_block_ms=120_000,
            linger_ms=5,
            **settings,
        )
        sender = Sender(self, producer)
        try:
            yield sender
            self.acknowledged += sender.acknowledged()
        finally:
            producer.close(timeout=10)

    @contextmanager
    def transacting(self) -> Iterator[Sender]:
        """A producer of transactions."""
        with self.producing(transactional_id=self.name) as sender:
            sender.producer.init_transactions()
            yield sender

    @contextmanager
    def flowing(self, messages: Sequence[Message], per_second: int) -> Iterator[None]:
        """Send messages at a pace during the block; at its end all are sent and acknowledged."""

        def send() -> None:
            with self.producing() as sender:
                step = max(1, per_second // 20)
                for at in range(0, len(messages), step):
                    sender(messages[at : at + step])
                    time.sleep(step / per_second)

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            yield
        if failure := sending.exception():
            raise CommandError(f"the producer gave up: {failure!r}") from failure

    def query(self, name: str, **parameters: Any) -> tuple[Any, ...]:
        """The one row of a statement of sql/torture.sql."""
        with closing(psycopg2.connect(self.dsn())) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement(f"torture/{name}"), parameters)
            return one_row(cursor)

    def wait_until_caught_up(self, job: Command, seconds: float = 300) -> None:
        """Until the mart and the lake have passed every record that was acknowledged."""
        end = len(self.acknowledged) + self.unread
        wait_until(lambda: self._applied() >= end, seconds, "not all records are applied", job)
        wait_until(lambda: self._landed() >= end, seconds, "not all records are landed", job)

    def _applied(self) -> int:
        with suppress(psycopg2.Error):
            return int(self.query("applied")[0])
        return -1

    def _landed(self) -> int:
        topic = describe_topic(Brokers(self.bootstrap, 20), self.name)
        return sum(read_next_offsets(DeltaTable(self.lake), topic, topic.end_offsets).values())

    def end_offsets(self) -> dict[int, int]:
        """Of the topic, as the broker says them."""
        with closing(KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)) as consumer:
            partitions = [TopicPartition(self.name, p) for p in consumer.partitions_for_topic(self.name) or ()]
            return {p.partition: offset for p, offset in consumer.end_offsets(partitions).items()}

    def differences(self, times_read: int | None = 1, kept: Sequence[Acknowledged] | None = None) -> list[str]:
        """Mart and lake against the oracle of what was acknowledged (or of those `kept`)."""
        ends = self.end_offsets()
        should = expected(self.acknowledged if kept is None else kept)
        found = differences(self.dsn(), self.lake, should, ends, times_read)
        if kept is None and sum(ends.values()) != len(self.acknowledged) + self.unread:
            found.append(
                f"the broker ends at {sum(ends.values())}, {len(self.acknowledged)} records were acknowledged, "
                f"{self.unread} offsets have none"
            )
        return found

    def verified(self, seconds: float = 300) -> list[str]:
        """`retail-mart verify`: no text if it finds mart and lake equal."""
        with self.life("cli", "verify") as life:
            return [] if life.wait(seconds) == 0 else [f"verify: {life.tail()}"]

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def recreate_topic(self) -> list[Acknowledged]:
        """Delete the topic and create it again, empty, with another id; returns what the old one had acknowledged."""
        stack.delete_topic(self.bootstrap, self.name)
        with closing(self.admin()) as admin:
            wait_until(lambda: self.name not in admin.list_topics(), 60, "the topic is not deleted")
        stack.ensure_topic(self.bootstrap, self.name, PARTITIONS)
        before, self.acknowledged = self.acknowledged, []
        return before

    def add_partitions(self, partitions: int) -> None:
        """So that the topic has so many."""
        with closing(self.admin()) as admin:
            admin.create_partitions({self.name: partitions})
            wait_until(lambda: len(self.end_offsets()) == partitions, 60, "the partitions are not there")

    def delete_records(self, before: Mapping[int, int]) -> None:
        """As retention does: the records before these offsets are gone."""
        with closing(self.admin()) as admin:
            admin.delete_records({TopicPartition(self.name, p): offset for p, offset in before.items()})


class Sender:
    """Sends messages of one pipeline, and notes where the broker put them."""

    def __init__(self, pipeline: Pipeline, producer: KafkaProducer) -> None:
        self.producer = producer
        self._pipeline = pipeline
        self._waiting: list[tuple[Any, Message]] = []

    def __call__(self, messages: Sequence[Message]) -> None:
        for m in messages:
            future = self.producer.send(self._pipeline.name, key=m.key, value=m.value, timestamp_ms=m.timestamp_ms)
            self._waiting.append((future, m))

    def acknowledged(self) -> list[Acknowledged]:
        """What was sent and not yet asked for, when the broker has it all."""
        self.producer.flush(timeout=_BROKER_SECONDS)
        placed = [(future.get(timeout=_BROKER_SECONDS), message) for future, message in self._waiting]
        self._waiting.clear()
        return [Acknowledged(at.partition, at.offset, message, at.timestamp) for at, message in placed]

    def transact(self, messages: Sequence[Message], commit: bool) -> None:
        """Send them in a transaction of their own, which is committed or taken back."""
        self.producer.begin_transaction()
        self(messages)
        placed = self.acknowledged()
        self._pipeline.unread += len({record.partition for record in placed})
        if commit:
            self.producer.commit_transaction()
            self._pipeline.acknowledged += placed
        else:
            self.producer.abort_transaction()
            self._pipeline.unread += len(placed)


def take_any_timestamp(bootstrap: str, topic: str) -> None:
    """As brokers before Kafka 4 do; later ones refuse what is more than an hour ahead, unless they are told."""
    most = {"message.timestamp.after.max.ms": str(2**63 - 1), "message.timestamp.before.max.ms": str(2**63 - 1)}
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, most)])
