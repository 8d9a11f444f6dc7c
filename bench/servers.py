"""One Kafka and one PostgreSQL for all ways that are compared; each way gets a database of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql
from rich.console import Console

import stack
from conf.segments import segment_scores
from demo.pipeline import Pipeline, pipeline
from mart.migrate import migrate
from sql import statement
from stack import database


@dataclass(frozen=True)
class Database:
    """A fresh database with the mart's tables and those of the peers; the DSNs of its owner and of the mart's roles."""

    name: str
    owner_dsn: str
    writer_dsn: str
    reader_dsn: str


@dataclass(frozen=True)
class Topic:
    """A filled topic: its invoices and their lines."""

    name: str
    invoices: int
    lines: int


class Servers:
    """Kafka and PostgreSQL, up, with what the benchmarks need of them."""

    def __init__(self, parts: Pipeline) -> None:
        self._pipeline = parts
        state = stack.read_state(parts.home)
        if not (state.kafka_bootstrap_servers and state.mart_dsn and state.superuser_dsn):
            raise RuntimeError(f"no servers in {parts.home}")
        self.home = parts.home
        self.kafka = state.kafka_bootstrap_servers
        self._superuser_dsn = state.superuser_dsn
        self._dsns = [str(dsn) for dsn in (state.mart_owner_dsn, state.mart_dsn, state.mart_reader_dsn)]

    @contextmanager
    def fresh_database(self, name: str) -> Iterator[Database]:
        """A database that nothing was done in yet, dropped at the end; the server's buffers are flushed before."""
        found = Database(name, *(_at(dsn, name) for dsn in self._dsns))
        with closing(psycopg2.connect(self._superuser_dsn)) as admin:
            admin.autocommit = True
            with admin.cursor() as cursor:
                database.create_database(cursor, name)
        try:
            with closing(psycopg2.connect(found.owner_dsn)) as owner:
                migrate(owner)
                with owner, owner.cursor() as cursor:
                    cursor.execute(statement("bench/peer_tables"))
                    cursor.executemany("INSERT INTO peer.segment_score VALUES (%s, %s, %s, %s)", list(segment_scores()))
            with closing(psycopg2.connect(self._superuser_dsn)) as admin:
                admin.autocommit = True
                admin.cursor().execute("CHECKPOINT")
            yield found
        finally:
            with closing(psycopg2.connect(self._superuser_dsn)) as admin:
                admin.autocommit = True
                admin.cursor().execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def environment(self, place: Database, topic: str) -> dict[str, str]:
        """The settings with which our commands work on this database and topic."""
        variables = {
            "MART_DSN": place.writer_dsn,
            "MART_OWNER_DSN": place.owner_dsn,
            "MART_READER_DSN": place.reader_dsn,
            "KAFKA_TOPIC": topic,
            "CHECKPOINT_DIR": str(self.home / "checkpoint" / place.name),
            "LAKE_PATH": str(self.home / "lake" / place.name),
        }
        return self._pipeline.environment(variables)

    def empty_topic(self, name: str) -> str:
        stack.ensure_topic(self.kafka, name, self._pipeline.settings.kafka_topic_partitions)
        return name

    def filled_topic(self, name: str, folder: Path) -> Topic:
        """A topic with the invoices of a folder of CSV files."""
        self.empty_topic(name)
        variables = {"KAFKA_TOPIC": name}
        sent = self._pipeline.run(f"filling topic {name}", "replay", str(folder), "--no-progress", variables=variables)
        found = re.search(r"([\d,]+) invoices \(([\d,]+) lines\)", sent)
        if found is None:
            raise RuntimeError(f"the producer said: {sent}")
        invoices, lines = (int(number.replace(",", "")) for number in found.groups())
        return Topic(name, invoices, lines)


@contextmanager
def servers(home: Path, console: Console) -> Iterator[Servers]:
    """Both servers, made anew in `home` and stopped at the end."""
    with pipeline(home, console) as parts:
        yield Servers(parts)


def _at(dsn: str, name: str) -> str:
    """The same server and account, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
