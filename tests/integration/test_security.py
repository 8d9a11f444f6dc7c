"""TLS, logins and secrets, on real servers: the whole line works with them, and nothing less is let in or let out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
import pytest

import stack
from conf.settings import Settings, SettingsError
from dashboards.reader import AwayError as ReaderAwayError
from dashboards.reader import Reader
from stack import process
from streaming.errors import AwayError, StreamingError
from streaming.lag import Lag
from streaming.mart import connect
from streaming.migrate import migrate
from streaming.source import describe_topic
from tests.conftest import ROOT, Line
from tests.integration.job import running
from tests.integration.mart_rows import rows
from tests.integration.secure import (
    SASL_PASSWORD,
    SASL_USER,
    Certificates,
    password,
    secure_broker,
    system_postgres,
    tls_postgres,
)

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


def settings_of(variables: dict[str, str], **more) -> Settings:
    return Settings(**{name.lower(): value for name, value in variables.items()}, **more)


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**environment, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )


def fill(environment: dict[str, str], folder: Path) -> int:
    """A small shop onto the topic by the producer; the number of its invoices."""
    made = command(environment, "producer", "generate", "--lines", "3000", "--output", str(folder), "--no-progress")
    assert made.returncode == 0, made.stdout
    sent = command(environment, "producer", "replay", str(folder), "--no-progress")
    assert sent.returncode == 0, sent.stdout
    current = Settings(**{n.lower(): environment[n] for n in environment if n.startswith("KAFKA_")})
    topic = describe_topic(current.require_kafka(), current.kafka_topic, 20, current.kafka_security())
    return sum(topic.end_offsets.values())


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


def test_the_whole_line_by_sasl_ssl_and_no_secret_shows(line: Line, kafka, tmp_path):
    stack.ensure_topic(kafka["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, 2, security=settings_of(kafka).kafka_security())
    ui_port = process.free_port()
    environment = {**line.environment(), **kafka, "KAFKA_TOPIC": TOPIC, "LOG_LEVEL": "debug"}
    environment["SPARK_UI_PORT"] = str(ui_port)
    invoices = fill(environment, tmp_path / "shop")
    assert invoices > 500
    secrets = (SASL_PASSWORD, *map(password, (line.mart.owner_dsn, line.mart.writer_dsn, line.mart.reader_dsn)))
    assert len(set(secrets)) == 4  # each role has its own
    with running(environment, tmp_path / "log", "--warm-up-rounds", "0") as job:
        job.wait_for('"event": "applied"')
        deadline = time.monotonic() + 120
        while rows(line.mart.owner_dsn, "SELECT count(*) FROM mart.invoice") != [(invoices,)]:
            assert time.monotonic() < deadline, job.text()[-3000:]
            time.sleep(0.2)
        job.wait_for('"event": "landed"')
        shown = command_lines()
        assert "streaming run" in shown
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
    verified = command(environment, "streaming", "verify")
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
def test_who_may_not_is_refused_with_a_clear_message(line, kafka, certificates, tmp_path, change, code, says):
    if change.get("KAFKA_SSL_CA_FILE"):
        change = {"KAFKA_SSL_CA_FILE": str(certificates.stranger)}
    security = {k: v for k, v in {**kafka, **change}.items() if v}
    environment = {**line.environment(), **security, "KAFKA_TOPIC": TOPIC}
    # A login that is refused may look like a hang-up: then the job tries again until it knows.
    environment |= {"KAFKA_TIMEOUT_SECONDS": "5", "OUTAGE_PATIENCE_SECONDS": "60" if code == 1 else "1"}
    shop = str(tmp_path / "shop")
    command(line.environment(), "producer", "generate", "--lines", "1000", "--output", shop, "--no-progress")
    for tool in (("streaming", "run", "--warm-up-rounds", "0"), ("producer", "replay", shop, "--no-progress")):
        done = command(environment, *tool)
        assert done.returncode == (code if tool[0] == "streaming" else 1), done.stdout
        assert says in " ".join(done.stdout.split())
        assert "Traceback" not in done.stdout
        assert leaked(done.stdout, SASL_PASSWORD, "wr0ng-secret", password(line.mart.writer_dsn)) == []


def test_the_other_clients_log_in_too(kafka):
    current = settings_of(kafka, kafka_topic=TOPIC)
    stack.ensure_topic(current.require_kafka(), "more", 1, security=current.kafka_security())
    topic = describe_topic(current.require_kafka(), "more", 10, current.kafka_security())
    with closing(Lag(current.require_kafka(), topic, {0: 0}, current.kafka_security())) as lag:
        assert lag.by_partition() == {0: 0}
    stack.delete_topic(current.require_kafka(), "more", security=current.kafka_security())
    wrong = settings_of({**kafka, "KAFKA_SASL_PASSWORD": "wr0ng-secret"}).kafka_security()
    with pytest.raises((StreamingError, AwayError), match="KAFKA_SASL_USERNAME"):
        describe_topic(current.require_kafka(), "more", 5, wrong)
    with pytest.raises(stack.StackError, match="KAFKA_SASL_USERNAME"):
        stack.ensure_topic(current.require_kafka(), "more", 1, 5, wrong)


@pytest.mark.skipif(system_postgres() is None, reason="no PostgreSQL with TLS here: Debian's package `postgresql`")
def test_a_postgres_of_tls_alone(certificates, tmp_path, monkeypatch):
    with tls_postgres(tmp_path / "home", certificates, monkeypatch) as dsns:
        with closing(psycopg2.connect(dsns["owner"])) as owner:
            migrate(owner)
        with closing(connect(dsns["writer"])) as writer:
            assert writer.info.ssl_in_use
        reader = Reader(lambda: dsns["reader"])
        assert reader.rows("SELECT count(*) FROM mart.segment_count") == [[0]] or reader.rows("SELECT 1") == [[1]]
        reader.close()

        plain = dsns["writer"].split("?")[0] + "?sslmode=disable"
        stranger = dsns["writer"].replace(str(certificates.authority), str(certificates.stranger))
        other_name = dsns["writer"].replace("@127.0.0.1:", "@127.0.0.2:")
        for dsn, says in (
            (plain, "no encryption"),
            (stranger, "certificate verify failed"),
            (other_name, "127.0.0.2|refused"),
        ):
            with pytest.raises((AwayError, StreamingError), match=says) as refused:
                connect(dsn)
            assert leaked(str(refused.value), password(dsn)) == []
            with pytest.raises(ReaderAwayError) as away:
                Reader(lambda dsn=dsn: dsn).rows("SELECT 1")
            assert leaked(str(away.value), password(dsn)) == []


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
