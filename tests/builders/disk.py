"""The tests' PostgreSQL does not wait for the disk: what a killed process has written, the kernel has."""

from __future__ import annotations

from contextlib import closing

import psycopg2

from tests.builders.waiting import until


def wait_for_the_disk(superuser_dsn: str, waits: bool) -> None:
    """From now on, new sessions do (as the server was started) or do not. A power cut is no test here."""
    with closing(psycopg2.connect(superuser_dsn)) as superuser, superuser.cursor() as cursor:
        superuser.autocommit = True
        cursor.execute("ALTER SYSTEM RESET fsync" if waits else "ALTER SYSTEM SET fsync = off")
        cursor.execute("SELECT pg_reload_conf()")
    if not waits:
        until(lambda: _fsync(superuser_dsn) == "off")


def _fsync(superuser_dsn: str) -> str:
    with closing(psycopg2.connect(superuser_dsn)) as superuser, superuser.cursor() as cursor:
        cursor.execute("SHOW fsync")
        return str(cursor.fetchall()[0][0])
