"""One Kafka and one PostgreSQL for all contenders; each contender gets its own database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
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

    def rows(self, name: str, **parameters: Any) -> pd.DataFrame:
        """The rows of a statement, by their columns' names; none while its tables are not there."""
        with closing(psycopg2.connect(self.owner_dsn)) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(statement(name), parameters)
            except psycopg2.errors.UndefinedTable:  # not made yet, or dropped to be made anew
                return pd.DataFrame()
            return pd.DataFrame(cursor.fetchall(), columns=[column[0] for column in cursor.description or ()])

    def customers(self, name: str) -> pd.DataFrame:
        """The customers as somebody reads them now: the rows of a statement, indexed by customer_id."""
        return self.rows(name).set_index("customer_id").sort_index()

    def visible(self, name: str) -> int:
        """How many purchases a mart shows now: the sum of its customers' frequencies."""
        found = self.rows(name)
        return 0 if found.empty else int(found.to_numpy()[0, 0])


@dataclass(frozen=True)
class Topic:
    """A filled topic and how many lines of invoices it holds."""

    name: str
    lines: int


@dataclass(frozen=True)
class Servers:
    """Kafka and PostgreSQL, up, with what the benchmarks need of them."""

    pipeline: Pipeline
    state: stack.State

    @property
    def home(self) -> Path:
        return self.pipeline.home

    @property
    def kafka(self) -> str:
        return str(self.state.kafka_bootstrap_servers)

    @contextmanager
    def fresh_database(self, name: str) -> Iterator[Database]:
        """A database that nothing was done in yet, dropped at the end; the server's buffers are flushed before."""
        dsns = (self.state.mart_owner_dsn, self.state.mart_dsn, self.state.mart_reader_dsn)
        place = Database(name, *(database.at(str(dsn), name) for dsn in dsns))
        with database.own_database(str(self.state.superuser_dsn), name):
            with closing(psycopg2.connect(place.owner_dsn)) as owner:
                migrate(owner)
                with owner, owner.cursor() as cursor:
                    cursor.execute(statement("bench/peer_tables"))
                    cursor.executemany("INSERT INTO peer.segment_score VALUES (%s, %s, %s, %s)", list(segment_scores()))
            with closing(psycopg2.connect(str(self.state.superuser_dsn))) as admin:
                admin.autocommit = True
                admin.cursor().execute("CHECKPOINT")
            yield place

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
        return self.pipeline.environment(variables)

    def empty_topic(self, name: str) -> str:
        stack.ensure_topic(self.kafka, name, self.pipeline.settings.kafka_topic_partitions)
        return name

    def filled_topic(self, name: str, folder: Path) -> Topic:
        """A topic with the invoices of a folder of CSV files."""
        self.empty_topic(name)
        sent = self.pipeline.run(
            f"filling topic {name}", "replay", str(folder), "--no-progress", variables={"KAFKA_TOPIC": name}
        )
        found = re.search(r"invoices \(([\d,]+) lines\)", sent)
        if found is None:
            raise RuntimeError(f"the producer said: {sent}")
        return Topic(name, int(found[1].replace(",", "")))


@contextmanager
def servers(home: Path, console: Console) -> Iterator[Servers]:
    """Both servers, made anew in `home` and stopped at the end."""
    with pipeline(home, console) as parts:
        yield Servers(parts, stack.read_state(home))
