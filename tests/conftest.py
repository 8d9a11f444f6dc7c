"""Fixtures of every test: one stack for the whole run, and a topic and a database of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import hypothesis
import psycopg2
import pytest
from pyspark.sql import SparkSession

import stack
from conf import masking
from conf.settings import Settings
from jvm.session import spark_session
from mart.migrate import migrate
from tests.builders.case_ids import case_id
from tests.builders.disk import wait_for_the_disk
from tests.builders.pipeline import Mart, Pipeline, new_mart
from tests.containers import servers_in_containers

# A busy machine is not a failed property: no example has to end in time.
hypothesis.settings.register_profile(
    "time is not asserted", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("time is not asserted")

# For every JVM of the run: most live for seconds, and the second compiler does not pay before minutes.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# No terminal stands behind a test, so the width of what commands print is said here.
os.environ["COLUMNS"] = "200"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=("embedded", "containers", "external"),
        default="embedded",
        help="Servers for the tests: start an embedded Kafka and PostgreSQL, or both in containers by "
        "testcontainers (needs Docker), or use the external ones that "
        "KAFKA_BOOTSTRAP_SERVERS, MART_DSN, MART_OWNER_DSN (may create databases) and MART_READER_DSN name.",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the most slow tests first: workers take a file each, and none has a long one left at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_make_parametrize_id(val: object) -> str | None:
    return case_id(val)


@pytest.fixture(autouse=True)
def nothing_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of one test are words of another: `mart` is a password somewhere."""
    monkeypatch.setattr(masking, "_known", ())


@pytest.fixture(scope="session")
def stack_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the run's own stack."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, stack_home: Path) -> Iterator[stack.State]:
    """Kafka and PostgreSQL for the whole run: embedded or in containers, stopped at the end, or the environment's."""
    if request.config.getoption("--stack") == "containers":
        with servers_in_containers() as state:
            yield state
        return
    if request.config.getoption("--stack") == "external":
        kafka, mart = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("MART_DSN")
        if not kafka or not mart:
            pytest.exit("--stack=external: set KAFKA_BOOTSTRAP_SERVERS and MART_DSN", returncode=4)
        yield stack.up(stack_home, external_kafka=kafka, external_mart=mart)
        return
    try:
        state = stack.up(stack_home)
        assert state.superuser_dsn
        wait_for_the_disk(state.superuser_dsn, False)
        yield state
    finally:
        stack.down(stack_home)


@pytest.fixture
def fresh_topic(servers: stack.State) -> Iterator[str]:
    """The name of an empty topic with 2 partitions, deleted after the test."""
    assert servers.kafka_bootstrap_servers
    name = f"test-{uuid.uuid4().hex[:12]}"
    stack.ensure_topic(servers.kafka_bootstrap_servers, name, 2)
    yield name
    stack.delete_topic(servers.kafka_bootstrap_servers, name)


@pytest.fixture
def fresh_mart(servers: stack.State) -> Iterator[Mart]:
    """An empty database of one test."""
    with new_mart(servers) as mart:
        yield mart


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of the run, with the stack of a thread that FPGrowth's recursion needs."""
    current = Settings(spark_master="local[2]", spark_driver_memory="1500m", mart_home=tmp_path_factory.mktemp("spark"))
    session = spark_session("retail-mart tests", current, {"spark.driver.extraJavaOptions": "-Xss16m -XX:+UseSerialGC"})
    yield session
    session.stop()


@pytest.fixture
def pipeline(servers: stack.State, fresh_topic: str, fresh_mart: Mart, tmp_path: Path) -> Pipeline:
    """An empty pipeline: producer's topic on one end, migrated mart on the other."""
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner:
        migrate(owner)
    settings = Settings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        kafka_topic=fresh_topic,
        mart_dsn=fresh_mart.writer_dsn,
        mart_owner_dsn=fresh_mart.owner_dsn,
        mart_reader_dsn=fresh_mart.reader_dsn,
        mart_home=tmp_path / "home",
        outage_patience_seconds=90,
    )
    return Pipeline(settings, fresh_mart)
