"""TLS, logins and secrets, on real servers: the pipeline works with them, and lets in or out nothing less."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
import psycopg2
import pytest

import stack
from conf.errors import StreamingError, UnavailableError
from conf.kafka import Brokers
from conf.settings import Settings, SettingsError
from dashboards.reader import Reader
from mart.connection import connect
from mart.migrate import migrate
from mart.quarantine import Rejected, quarantine
from mart.reject_reason import RejectReason
from operations.backup import backup, restore
from operations.explain import explain
from operations.verify import verify
from stack import process
from streaming.lag import Lag
from streaming.main import RunOptions, stream
from tests.builders import lake_rows
from tests.builders.files import ROOT
from tests.builders.job import running
from tests.builders.mart_rows import assert_mart_equals, rows
from tests.builders.pipeline import Pipeline
from tests.builders.records import encode, event, random_events, send
from tests.builders.secure import (
    SASL_PASSWORD,
    SASL_USER,
    Certificates,
    password,
    secure_broker,
    system_postgres,
    tls_postgres,
)
from tests.builders.waiting import until
from topic.describe import Topic, describe_topic
from torture.oracle import expected_customers

pytestmark = [pytest.mark.stack, pytest.mark.slow]
TOPIC = "invoices"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def address(tmp_path_factory, certificates):
    with secure_broker(tmp_path_factory.mktemp("secure"), certificates) as found:
        yield found


@pytest.fixture(scope="module")
def kafka(address, certificates) -> dict[str, str]:
    """The settings that let a client in, as environment variables."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": SASL_USER,
        "KAFKA_SASL_PASSWORD": SASL_PASSWORD,
        "KAFKA_SSL_CA_FILE": str(certificates.authority),
    }


@pytest.fixture(scope="module")
def postgres(tmp_path_factory, certificates):
    if system_postgres() is None:
        pytest.skip("no PostgreSQL with TLS here: Debian's package `postgresql`")
    with tls_postgres(tmp_path_factory.mktemp("tls-postgres"), certificates) as dsns:
        with closing(psycopg2.connect(dsns["owner"])) as owner:
            migrate(owner)
        yield dsns


def settings_of(variables: dict[str, str], **more) -> Settings:
    return Settings(**{name.lower(): value for name, value in variables.items()}, **more)


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env={**environment, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )


def fill(environment: dict[str, str], folder: Path) -> int:
    """A small shop onto the topic by the producer; the number of its invoices."""
    made = command(environment, "generate", "--lines", "3000", "--output", str(folder), "--no-progress")
    assert made.returncode == 0, made.stdout
    sent = command(environment, "replay", str(folder), "--no-progress")
    assert sent.returncode == 0, sent.stdout
    current = Settings(**{n.lower(): environment[n] for n in environment if n.startswith("KAFKA_")})
    topic = describe_topic(Brokers(current.require_kafka(), 20, current.kafka_security()), current.kafka_topic)
    return sum(topic.end_offsets.values())


def hold_back(pipeline: Pipeline, invoice: dict) -> None:
    """Quarantine a record that is right today: what `redrive` is for."""
    record = encode([invoice])[0][1]
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    with closing(psycopg2.connect(pipeline.mart.writer_dsn)) as connection, connection, connection.cursor() as cursor:
        topic = Topic(TOPIC, "11111111-1111-1111-1111-111111111111", {}, {})
        quarantine(cursor, topic, [Rejected(0, 0, long_ago, RejectReason.TOO_LARGE, "too large then", record)])


def command_lines() -> str:
    """The command lines of all processes of this machine, as `ps` shows them to anyone."""
    found = []
    for one in psutil.process_iter():
        try:
            found.append(" ".join(one.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(found)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def spellings(secret: str) -> set[str]:
    """A secret as it is, and as Java's login configuration, JSON or a URL would write it."""
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    return {secret, escaped, json.dumps(secret)[1:-1], json.dumps(escaped)[1:-1], quote(secret)}


def leaked(text: str, *secrets: str) -> list[str]:
    return [spelling for secret in secrets for spelling in spellings(secret) if spelling in text]


def test_the_whole_line_by_sasl_ssl_and_no_secret_shows(pipeline: Pipeline, kafka, tmp_path):
    stack.ensure_topic(kafka["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, 2, security=settings_of(kafka).kafka_security())
    ui_port = process.free_port()
    environment = {**pipeline.environment(), **kafka, "KAFKA_TOPIC": TOPIC, "LOG_LEVEL": "debug"}
    environment |= {"SPARK_UI_PORT": str(ui_port), "LANDING_TRIGGER_SECONDS": "2"}
    hold_back(pipeline, event("redriven", "2025-06-01", "c1"))
    invoices = fill(environment, tmp_path / "shop")
    assert invoices > 500
    secrets = (
        SASL_PASSWORD,
        *map(password, (pipeline.mart.owner_dsn, pipeline.mart.writer_dsn, pipeline.mart.reader_dsn)),
    )
    assert len(set(secrets)) == 4  # each role has its own
    with running(environment, tmp_path / "log", "--warm-up-rounds", "0") as job:
        job.wait_for('"event": "applied"')
        redriven = command(environment, "rejected", "redrive", "--all")
        assert (redriven.returncode, "sent to the topic again" in redriven.stdout) == (0, True), redriven.stdout
        assert leaked(redriven.stdout, *secrets) == []
        applied = "SELECT count(*), count(*) FILTER (WHERE invoice = 'redriven') FROM mart.invoice"
        until(lambda: rows(pipeline.mart.owner_dsn, applied) == [(invoices + 1, 1)], 120, job.process)
        job.wait_for('"event": "landed"')
        landed = (invoices + 1, invoices + 1)
        until(lambda: lake_rows.counts(pipeline.settings.lake) == landed, 120, job.process)
        shown = command_lines()
        assert "-m cli run" in shown
        assert leaked(shown, *secrets) == []
        base = f"http://127.0.0.1:{ui_port}"
        [application] = json.loads(get(f"{base}/api/v1/applications"))
        api = f"{base}/api/v1/applications/{application['id']}"
        pages = [f"{api}/environment", f"{api}/sql?details=true&planDescription=true", f"{api}/jobs", f"{api}/stages"]
        pages += [f"{base}/environment/", f"{base}/StreamingQuery/", f"{base}/SQL/"]
        text = "\n".join(map(get, pages))
        assert "retail-mart streaming" in text
        assert leaked(text, *secrets) == []
        listening = {
            c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == ui_port
        }
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
        assert job.stop() == 0
        assert leaked(job.text(), *secrets) == []
    verified = command(environment, "verify")
    assert verified.returncode == 0, verified.stdout
    assert leaked(verified.stdout, *secrets) == []


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"KAFKA_SASL_PASSWORD": "wr0ng-secret"}, 1, "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and"),
        ({"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, 4, "KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"KAFKA_SSL_CA_FILE": "stranger"}, 4, "KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        ({"KAFKA_SASL_PASSWORD": ""}, 1, "needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
    ],
)
def test_who_may_not_is_refused_with_a_clear_message(pipeline, kafka, certificates, tmp_path, change, code, says):
    if change.get("KAFKA_SSL_CA_FILE"):
        change = {"KAFKA_SSL_CA_FILE": str(certificates.stranger)}
    security = {k: v for k, v in {**kafka, **change}.items() if v}
    environment = {**pipeline.environment(), **security, "KAFKA_TOPIC": TOPIC}
    # A login that is refused may look like a hang-up: then the job tries again until it knows.
    environment |= {"KAFKA_TIMEOUT_SECONDS": "5", "OUTAGE_PATIENCE_SECONDS": "300" if code == 1 else "1"}
    shop = str(tmp_path / "shop")
    command(pipeline.environment(), "generate", "--lines", "1000", "--output", shop, "--no-progress")
    tools = {
        ("run", "--warm-up-rounds", "0"): {code},
        ("rejected", "redrive", "--all"): {code, 4},  # one try: what looks like a hang-up stays one
        ("replay", shop, "--no-progress"): {code, 4},
    }
    with ThreadPoolExecutor() as pool:  # at once: most of their time is waiting for an answer
        ended = list(pool.map(lambda tool: command(environment, *tool), tools))
    for done, codes in zip(ended, tools.values(), strict=True):
        assert done.returncode in codes, done.stdout
        assert says in " ".join(done.stdout.split())
        assert "Traceback" not in done.stdout
        assert leaked(done.stdout, SASL_PASSWORD, "wr0ng-secret", password(pipeline.mart.writer_dsn)) == []


def test_the_other_clients_log_in_too(kafka):
    current = settings_of(kafka, kafka_topic=TOPIC)
    stack.ensure_topic(current.require_kafka(), "more", 1, security=current.kafka_security())
    topic = describe_topic(Brokers(current.require_kafka(), 10, current.kafka_security()), "more")
    with closing(Lag(Brokers(current.require_kafka(), security=current.kafka_security()), topic, {0: 0})) as lag:
        assert lag.by_partition() == {0: 0}
    stack.delete_topic(current.require_kafka(), "more", security=current.kafka_security())
    wrong = settings_of({**kafka, "KAFKA_SASL_PASSWORD": "wr0ng-secret"}).kafka_security()
    # The broker's refusal, or that it hangs up, whichever kafka-python sees first (conf/kafka.py): both name the login.
    with pytest.raises((StreamingError, UnavailableError), match="KAFKA_SASL_USERNAME"):
        describe_topic(Brokers(current.require_kafka(), 5, wrong), "more")
    with pytest.raises((StreamingError, UnavailableError), match="KAFKA_SASL_USERNAME"):
        stack.ensure_topic(current.require_kafka(), "more", 1, 5, wrong)


def test_a_postgres_of_tls_alone(postgres, certificates):
    with closing(connect(postgres["writer"])) as writer:
        assert writer.info.ssl_in_use
    reader = Reader(lambda: postgres["reader"])
    assert reader.rows("SELECT count(*) > 0 FROM mart.segment_count") == [[True]]
    reader.close()

    plain = postgres["writer"].split("?")[0] + "?sslmode=disable"
    stranger = postgres["writer"].replace(str(certificates.authority), str(certificates.stranger))
    for dsn, says in (
        (plain, "no encryption"),
        (stranger, "certificate verify failed"),
        (by_name(postgres["writer"], "mart.example"), 'does not match host name "mart.example"'),
    ):
        with pytest.raises(StreamingError, match=says) as refused:
            connect(dsn)
        assert leaked(str(refused.value), password(dsn)) == []
        with pytest.raises(UnavailableError) as unavailable:
            Reader(lambda dsn=dsn: dsn).rows("SELECT 1")
        assert leaked(str(unavailable.value), password(dsn)) == []
    # It was the name alone: the certificate's own is taken, and without a look at the name any is.
    connect(by_name(postgres["writer"], "localhost")).close()
    connect(by_name(postgres["writer"], "mart.example").replace("verify-full", "verify-ca")).close()


def by_name(dsn: str, host: str) -> str:
    """The same server at the same address, asked for by another host name."""
    url = urlsplit(dsn)
    account = url.netloc.split("@")[0]
    return urlunsplit(url._replace(netloc=f"{account}@{host}:{url.port}", query=f"{url.query}&hostaddr={url.hostname}"))


@pytest.mark.spark
def test_the_stream_on_a_postgres_of_tls_alone(postgres, servers, fresh_topic, spark, tmp_path):
    settings = Settings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        kafka_topic=fresh_topic,
        mart_dsn=postgres["writer"],
        mart_owner_dsn=postgres["owner"],
        mart_reader_dsn=postgres["reader"],
        mart_home=tmp_path / "home",
    )
    events = random_events(300, customers=40, seed=71)
    send(settings.require_kafka(), fresh_topic, encode(events))
    stream(spark, settings, RunOptions(available_now=True, warm_up_rounds=0), threading.Event())
    assert_mart_equals(postgres["owner"], expected_customers(events))
    assert verify(settings, wait_seconds=0).equal
    customer = next(e["customer_id"] for e in events if e["customer_id"])
    with closing(psycopg2.connect(postgres["reader"])) as reader:
        assert explain(reader, customer).purchases
    dump = backup(settings, tmp_path / "backup")
    with closing(psycopg2.connect(postgres["owner"])) as owner, owner, owner.cursor() as cursor:
        cursor.execute("DROP SCHEMA mart CASCADE")
        cursor.execute("DROP TABLE public.migration")
    assert restore(settings, dump).note["invoices"] == 300
    assert_mart_equals(postgres["owner"], expected_customers(events))


def test_a_wrong_setting_is_told_without_a_secret(monkeypatch):
    from conf import settings as module

    monkeypatch.setenv("MART_DSN", "postgresql://writer:dsn-5ecret@h/mart")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SASL_PASSWORD)
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.delenv("KAFKA_SASL_USERNAME", raising=False)
    module.settings.cache_clear()
    try:
        with pytest.raises(SettingsError) as told:
            module.settings()
    finally:
        module.settings.cache_clear()
    assert "needs KAFKA_SASL_USERNAME" in str(told.value)
    assert leaked(str(told.value), SASL_PASSWORD, "dsn-5ecret") == []
    monkeypatch.setenv("KAFKA_SASL_USERNAME", SASL_USER)
    assert leaked(repr(Settings()), SASL_PASSWORD, "dsn-5ecret") == []
