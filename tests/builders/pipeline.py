"""What one test has for itself on the run's servers: a database, and a topic that leads to it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import stack
from conf.settings import Settings
from stack import database


@dataclass(frozen=True)
class Mart:
    """A database of one test, by the DSNs of its three roles."""

    name: str
    owner_dsn: str
    writer_dsn: str
    reader_dsn: str


@contextmanager
def new_mart(servers: stack.State) -> Iterator[Mart]:
    """An empty database owned by mart_owner, dropped at the end whoever is still connected."""
    assert servers.mart_dsn
    owner = servers.mart_owner_dsn or servers.mart_dsn
    admin = servers.superuser_dsn or owner
    owner_name = urlsplit(owner).username or database.OWNER
    name = f"test_{uuid.uuid4().hex[:12]}"
    with database.own_database(admin, name, owner_name):
        yield Mart(
            name,
            owner_dsn=database.at(owner, name),
            writer_dsn=database.at(servers.mart_dsn, name),
            reader_dsn=database.at(servers.mart_reader_dsn or servers.mart_dsn, name),
        )


@dataclass(frozen=True)
class Pipeline:
    """The pipeline of one test: an empty topic, a migrated mart, and the settings that name both."""

    settings: Settings
    mart: Mart

    @property
    def bootstrap_servers(self) -> str:
        return self.settings.require_kafka()

    @property
    def topic(self) -> str:
        return self.settings.kafka_topic

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a job of its own process."""
        return {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_TOPIC": self.topic,
            "MART_DSN": self.mart.writer_dsn,
            "MART_OWNER_DSN": self.mart.owner_dsn,
            "MART_READER_DSN": self.mart.reader_dsn,
            "MART_HOME": str(self.settings.mart_home),
            "OUTAGE_PATIENCE_SECONDS": str(self.settings.outage_patience_seconds),
            "MAX_INVOICES_PER_BATCH": str(self.settings.max_invoices_per_batch),
        }
