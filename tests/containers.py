"""Kafka and PostgreSQL in containers, by testcontainers, for the same tests that run on the embedded ones."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import pytest
from docker.errors import DockerException
from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.postgres import PostgresContainer

import stack
from stack import database

POSTGRES_IMAGE = "postgres:18"
# As the embedded broker: no topic by mistake, and records as large as the contract allows.
_BROKER = {"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false", "KAFKA_MESSAGE_MAX_BYTES": "2097152"}


@contextmanager
def servers_in_containers() -> Iterator[stack.State]:
    """Both servers with the mart's roles, gone at the end. Skips where no Docker engine answers."""
    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"--stack=containers needs Docker, and no engine answers: {error}")
    roles = (database.SUPERUSER, database.OWNER, database.WRITER, database.READER)
    passwords = {role: secrets.token_urlsafe(24) for role in roles}
    broker = KafkaContainer().with_kraft()
    for name, value in _BROKER.items():
        broker.with_env(name, value)
    postgres = PostgresContainer(
        POSTGRES_IMAGE, username=database.SUPERUSER, password=passwords[database.SUPERUSER], dbname="postgres"
    ).with_command("postgres -c track_commit_timestamp=on -c timezone=UTC")
    with broker, postgres:
        server = f"{postgres.get_container_host_ip()}:{postgres.get_exposed_port(5432)}"
        dsns = {role: f"postgresql://{role}:{passwords[role]}@{server}/{database.DATABASE}" for role in roles}
        superuser = f"postgresql://{database.SUPERUSER}:{passwords[database.SUPERUSER]}@{server}/postgres"
        database.ensure_roles(superuser, passwords)
        yield stack.State(
            kafka_bootstrap_servers=broker.get_bootstrap_server(),
            mart_dsn=dsns[database.WRITER],
            mart_owner_dsn=dsns[database.OWNER],
            mart_reader_dsn=dsns[database.READER],
            superuser_dsn=superuser,
        )
