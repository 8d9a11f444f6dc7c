"""Point-in-time recovery, as docs/operations.md tells it: a mistake is undone by base backup and archived WAL."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

import stack
from sql import statement
from stack import database, privileges
from stack.command import wait_until
from tests.builders.mart_rows import rows
from torture.check import differences
from torture.oracle import expected
from torture.pipeline import Pipeline
from torture.traffic import Traffic
from torture.world import World

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@contextmanager
def postgres(home: Path, **configuration: str) -> Iterator[dict[str, str]]:
    """The fields of stack.State that name a PostgreSQL of the test's own."""
    server = database.start(home, configuration=configuration)
    try:
        roles = {"mart_dsn": database.WRITER, "mart_owner_dsn": database.OWNER, "superuser_dsn": database.SUPERUSER}
        yield {name: database.dsn(home, role, server.port) for name, role in roles.items()}
    finally:
        database.stop(home, server)


def base_backup(superuser_dsn: str, folder: Path) -> None:
    server = urlsplit(superuser_dsn)
    tool = database._bin() / "pg_basebackup"
    subprocess.run(
        [tool, "-h", str(server.hostname), "-p", str(server.port), "-U", server.username, "-D", folder, "-c", "fast"],
        env={**os.environ, "PGPASSWORD": server.password or ""},
        check=True,
    )


def given_to(user: tuple[int, int] | None, folder: Path) -> Path:
    """A folder with all that is in it, as the server's own account owns it."""
    for path in (folder, *folder.rglob("*")):
        if user:
            os.chown(path, *user)
    return folder


def alter(dsn: str, change: str) -> int:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(change)
        return cursor.rowcount


def catch_up(pipeline: Pipeline) -> None:
    with pipeline.life("torture.driver") as life:
        life.succeed()


def test_a_mistake_is_undone_and_the_stream_goes_on(servers, tmp_path):
    archive, home, new_home = tmp_path / "archive", tmp_path / "old", tmp_path / "new"
    archive.mkdir()
    user = privileges.owner_for(home / "postgres" / "data")
    given_to(user, archive)
    archiving = {"archive_mode": "on", "archive_command": f"test ! -f {archive}/%f && cp %p {archive}/%f"}
    with ExitStack() as both:
        lost = both.enter_context(postgres(home, **archiving))
        world = World(tmp_path, stack.State(kafka_bootstrap_servers=servers.kafka_bootstrap_servers, **lost))
        with world.pipeline() as pipeline:
            traffic = Traffic(seed=61)
            pipeline.send(traffic.messy(200))
            catch_up(pipeline)
            base_backup(lost["superuser_dsn"], new_home / "postgres" / "data")
            pipeline.send(traffic.messy(200))
            catch_up(pipeline)
            until_then, next_offsets = list(pipeline.acknowledged), pipeline.end_offsets()
            [(moment,)] = rows(pipeline.dsn("owner"), "SELECT clock_timestamp()::text")
            time.sleep(0.01)
            # The mistake; it is noticed only when more was applied and landed on top of it.
            assert alter(pipeline.dsn("owner"), "DELETE FROM mart.customer WHERE segment = 'Champions'") > 0
            pipeline.send(traffic.messy(200))
            catch_up(pipeline)
            [(file,)] = rows(lost["superuser_dsn"], "SELECT pg_walfile_name(pg_switch_wal())")
            wait_until((archive / file).exists, 30, "the last WAL file is not archived")

            # A new server from the base backup, with the WAL up to the moment before.
            shutil.copy(home / "postgres" / "passwords.json", new_home / "postgres")
            (new_home / "postgres" / "data" / "recovery.signal").touch()
            given_to(user, new_home / "postgres" / "data")
            recovery = {
                "restore_command": f"cp {archive}/%f %p",
                "recovery_target_time": moment,
                "recovery_target_action": "promote",
            }
            recovered = both.enter_context(postgres(new_home, **archiving, **recovery))
            pipeline.state = world.state = world.state.model_copy(update=recovered)
            wait_until(
                lambda: rows(pipeline.dsn("owner"), "SELECT pg_is_in_recovery()") == [(False,)], 30, "not promoted"
            )
            found = differences(pipeline.dsn("owner"), pipeline.lake, expected(until_then), next_offsets, None)
            assert [d for d in found if not d.startswith("landed record too many")] == []
            assert len(found) == 1  # the lake is ahead of the mart, and
            assert pipeline.verified() == []  # is compared at the mart's next offsets
            # A job of the server with the mistake may have the epoch that the next one here would get.
            newest_epoch = "SELECT max(epoch) FROM mart.stream_writer"
            [(before,)] = rows(pipeline.dsn("owner"), newest_epoch)
            alter(pipeline.dsn("owner"), statement("backup/fence_older_jobs"))
            # What came after the moment is still on the topic: it is applied from the restored next offsets on.
            pipeline.send(traffic.messy(200))
            catch_up(pipeline)
            assert rows(pipeline.dsn("owner"), newest_epoch) == [(before + 1001,)]
            assert pipeline.differences() == []
            assert pipeline.verified() == []
