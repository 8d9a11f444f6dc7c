"""World: the torture's own Kafka and PostgreSQL, a pipeline for each scenario, and the ways to mistreat them."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

import stack
from mart.migrate import migrate
from sql import statement
from stack import database
from stack.command import CommandError
from torture.pipeline import PARTITIONS, Pipeline


@dataclass
class World:
    """The servers, in a home of their own."""

    home: Path
    state: stack.State

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """An empty topic, a migrated mart and no lake yet; all gone at the end."""
        name = f"torture_{uuid.uuid4().hex[:10]}"
        pipeline = Pipeline(self.state, name, self.home / "pipelines" / name)
        stack.ensure_topic(pipeline.bootstrap, name, PARTITIONS)
        try:
            with database.own_database(str(self.state.superuser_dsn), name):
                with closing(psycopg2.connect(pipeline.dsn())) as owner:
                    migrate(owner)
                yield pipeline
        finally:
            stack.delete_topic(pipeline.bootstrap, name)

    @contextmanager
    def tablespace(self, pipeline: Pipeline, folder: Path) -> Iterator[None]:
        """The pipeline's mart is on this file system within the block."""
        with self._superuser() as cursor:
            location = sql.Literal(str(folder))
            cursor.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(pipeline.name), location))
        self._alter("ALTER DATABASE {0} SET TABLESPACE {0}", pipeline.name)
        try:
            yield
        finally:
            self.terminate_backends(pipeline)
            self._alter("ALTER DATABASE {} SET TABLESPACE pg_default", pipeline.name)
            self._alter("DROP TABLESPACE {}", pipeline.name)

    def up(self) -> None:
        """Start what does not run, on its last port. Raises CommandError if it comes back on another."""
        before, self.state = self.state, stack.up(self.home)
        for address in ("kafka_bootstrap_servers", "mart_dsn"):
            if getattr(self.state, address) != getattr(before, address):
                raise CommandError(f"a server came back on another port: {address} has changed")

    def stop_database_immediately(self) -> None:
        """PostgreSQL's immediate shutdown: no checkpoint, every session cut; it recovers at its next start."""
        [pid] = [server.pid for server in stack.status(self.home) if server.name == database.NAME]
        if pid is not None:
            process = psutil.Process(pid)
            process.send_signal(signal.SIGQUIT)
            psutil.wait_procs([process], timeout=60)

    def terminate_backends(self, pipeline: Pipeline) -> None:
        """End every session of a pipeline's mart."""
        with self._superuser() as cursor:
            cursor.execute(statement("torture/terminate_backends"), {"database": pipeline.name})

    def set_read_only(self, pipeline: Pipeline, read_only: bool) -> None:
        """Whether the mart takes writes; every session of it ends, and the next ones find it so."""
        setting = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        self._alter(f"ALTER DATABASE {{}} {setting}", pipeline.name)
        self.terminate_backends(pipeline)

    def _alter(self, change: str, name: str) -> None:
        with self._superuser() as cursor:
            cursor.execute(sql.SQL(change).format(sql.Identifier(name)))

    @contextmanager
    def _superuser(self) -> Iterator[psycopg2.extensions.cursor]:
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
