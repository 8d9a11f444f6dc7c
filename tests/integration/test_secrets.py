"""No secret of the settings is in anything that any command writes, sends or serves, however it is spelt."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import sql

from conf.settings import Settings
from stack.process import free_port
from tests.builders.files import ROOT
from tests.builders.served import served
from tests.builders.sinks import listening
from tests.builders.verbs import Ended, run, verbs

pytestmark = [pytest.mark.stack]

# Each unescaped character breaks a DSN another way, and each word between them is a piece that a message could show.
UNESCAPED = {
    "percent": "postgresql://writer:zzqk%zzvbxq@127.0.0.1:1/mart",
    "percent at the end": "postgresql://writer:zzqkvbxq%@127.0.0.1:1/mart",
    "at": "postgresql://writer:zzqk@vbxq@127.0.0.1:1/mart",
    "slash": "postgresql://writer:zzqk/vbxq@127.0.0.1:1/mart",
    "digits, slash": "postgresql://writer:12/vbxq@127.0.0.1:1/mart",
    "all": "postgresql://writer:zzqk%zz@vbxq/wjjx:yqqz?kxxj#hvvk@127.0.0.1:1/mart",
    "space": "host=127.0.0.1 port=1 user=writer password=zzqk vbxq dbname=mart",
    "quote": "host=127.0.0.1 port=1 user=writer password='zzqk'vbxq' dbname=mart",
    "other scheme": "postgres+psycopg2://writer:zzqkvbxq@127.0.0.1:1/mart",
}
PASSWORD = "zzqk%zz@vbxq/wjjx hvvk\\yqqz:kxxj\"qvvj'jzzk?gqqx#bxxv&xkkq"
PIECES = ("zzqk", "vbxq", "wjjx", "hvvk", "yqqz", "kxxj", "qvvj", "jzzk", "gqqx", "bxxv", "xkkq")
# The other secrets of a process, in which such a piece is, too.
OTHERS = {
    "KAFKA_SASL_PASSWORD": 'sasl-zzqk"vbxq\\wjjx',
    "SMTP_PASSWORD": "smtp-hvvk yqqz",
    "METABASE_ADMIN_PASSWORD": "metabase-kxxj&qvvj",
    "METABASE_API_KEY": "mb_jzzk",
    "AWS_SECRET_ACCESS_KEY": "aws/bxxv+xkkq",
}
# Which arguments make a verb do its work; a verb that needs some and is not here fails the test.
ARGUMENTS = {
    "run": ("--available-now", "--warm-up-rounds", "0"),
    "verify": ("--wait", "0"),
    "explain": ("c1",),
    "restore": ("{dump}",),
    "watch": ("--once",),
    "export": ("c1",),
    "erase": ("c1", "--yes", "--accept-unknown"),
    "prune": ("--yes",),
    "rejected show": ("0:1",),
    "rejected redrive": ("--all",),
    "generate": ("--lines", "1000", "--days", "2", "--output", "{home}/made", "--overwrite", "--no-progress"),
    "replay": ("{shop}", "--no-progress"),
    "live": ("--duration", "0.2", "--no-progress"),
    "recommend": ("A1",),
    "rollback": ("1",),
    "env": ("{home}/env",),
    "reset": ("--yes",),
    "airflow": ("version",),
    "with-servers": ("true",),
}
OWN_SERVERS = ("bench", "torture", "demo")  # make servers of their own, whatever DSN the environment names
FOR_EVER = ("page",)
# What they do needs no setting.
READ_NO_SETTING = {"settings", "generate", "env", "jvm java", "bench", "torture mutants", "torture run"}
ALL = sorted(verbs())


@pytest.fixture(autouse=True)
def quiet_again():
    """What commands change in the process."""
    levels = {name: logging.getLogger(name).level for name in ("kafka", "kafka.net.manager")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without servers, with a dump to restore and a shop's files; nothing waits for long."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    for name, value in {
        "MART_HOME": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "KAFKA_TIMEOUT_SECONDS": "0.3",
        "OUTAGE_PATIENCE_SECONDS": "0",
        "METABASE_URL": f"http://127.0.0.1:{free_port()}",
        "METABASE_TIMEOUT_SECONDS": "0.1",
        "COLUMNS": "300",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mart.status._PATIENCE_SECONDS", 0.1)
    (tmp_path / "b.dump").write_bytes(b"dump")
    (tmp_path / "b.json").write_text(json.dumps({"sha256": hashlib.sha256(b"dump").hexdigest()}))
    shop = tmp_path / "made"
    assert run("generate", *ARGUMENTS["generate"][:4], "--output", str(shop), "--no-progress").code == 0
    return tmp_path


def run_in(home, verb: str) -> Ended:
    places = {"home": str(home), "dump": str(home / "b.dump"), "shop": str(home / "made")}
    return run(verb, *(argument.format(**places) for argument in ARGUMENTS.get(verb, ())))


def shown(text: str) -> list[str]:
    """The pieces of secrets in a text."""
    return [piece for piece in PIECES if piece in text]


def with_every_dsn(monkeypatch, dsn: str) -> None:
    for name in ("MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN"):
        monkeypatch.setenv(name, dsn)


@pytest.mark.parametrize("unescaped", UNESCAPED)
def test_an_unescaped_password_is_refused_by_every_verb_and_not_shown(home, monkeypatch, unescaped):
    with_every_dsn(monkeypatch, UNESCAPED[unescaped])
    for verb in ALL:
        if verb in READ_NO_SETTING:
            continue
        ended = run_in(home, verb)
        assert ended.code in (1, 2), (verb, ended)
        assert "MART_DSN: " in ended.text, (verb, ended)
        assert "%40" in ended.text or "backslash" in ended.text or "begin it with" in ended.text, (verb, ended)
        assert shown(ended.text) == [], (verb, ended)
        assert "Traceback" not in ended.text, (verb, ended)


@pytest.mark.parametrize(("name", "value"), [("MART_DSN", "garbage"), ("METRICS_PORT", "x")])
def test_a_wrong_setting_is_one_clear_line_on_every_verb(home, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    for verb in ALL:
        if verb in READ_NO_SETTING:
            continue
        ended = run_in(home, verb)
        assert ended.code in (1, 2), (verb, ended)
        [line] = ended.text.splitlines()
        assert f"{name}: " in line, (verb, ended)


def test_a_server_that_is_not_there(home, monkeypatch):
    account = quote(PASSWORD, safe="")
    with_every_dsn(monkeypatch, f"postgresql://writer:{account}@127.0.0.1:{free_port()}/mart")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "someone")
    said = told(home, monkeypatch)
    assert "Connection refused" in said["migrate"]
    assert "mart_unreachable" in said["watch"]


def test_a_server_that_refuses_the_password(home, monkeypatch, servers):
    with_every_dsn(monkeypatch, account_of(servers.mart_dsn, urlsplit(servers.mart_dsn).username, PASSWORD))
    said = told(home, monkeypatch)
    assert "password authentication failed" in said["migrate"]
    assert "password authentication failed" in said["runs"]


def test_a_database_that_is_not_there(home, monkeypatch, servers):
    with closing(psycopg2.connect(servers.superuser_dsn or servers.mart_owner_dsn)) as admin:
        admin.autocommit = True
        admin.cursor().execute(sql.SQL("CREATE ROLE hostile LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
        try:
            dsn = account_of(servers.mart_dsn, "hostile", PASSWORD)
            with closing(psycopg2.connect(dsn)):  # the password is right
                pass
            with_every_dsn(monkeypatch, urlunsplit(urlsplit(dsn)._replace(path="/nowhere")))
            said = told(home, monkeypatch)
        finally:
            admin.cursor().execute("DROP ROLE hostile")
    assert r"\"nowhere\" does not exist" in said["migrate"]  # in a line of JSON


def account_of(dsn: str, user: str | None, password: str) -> str:
    """The same server and database, another account."""
    url = urlsplit(dsn)
    return urlunsplit(url._replace(netloc=f"{user}:{quote(password, safe='')}@{url.hostname}:{url.port}"))


def told(home, monkeypatch) -> dict[str, str]:
    """What each verb writes; and no secret is in it, nor in the e-mails, Slack's messages and files that it makes."""
    said = {}
    monkeypatch.delenv("SMTP_PASSWORD")  # the sink speaks plain text, and then none may be set
    with listening() as sinks:
        for name, value in sinks.environment.items():
            monkeypatch.setenv(name, value)
        webhook = os.environ["SLACK_WEBHOOK_URL"]
        for verb in ALL:
            if verb.startswith(OWN_SERVERS) or verb in (*FOR_EVER, "run"):
                continue  # the last two: below, as processes
            ended = run_in(home, verb)
            assert shown(ended.text) == [], (verb, ended)
            assert webhook not in ended.text
            assert "Traceback" not in ended.text, (verb, ended)
            said[verb] = ended.text
        sent = [*sinks.slack_texts, *(mail.as_string() + mail.get_content() for mail in sinks.mails)]
        assert len(sent) >= 2
        assert [piece for text in sent for piece in shown(text)] == []
    for kept in ("watch.json", "b.json"):
        assert shown((home / kept).read_text()) == []
    return said


@pytest.mark.slow
def test_the_job_that_is_refused(home, monkeypatch, servers, fresh_topic):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers.kafka_bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC", fresh_topic)
    monkeypatch.setenv("KAFKA_TIMEOUT_SECONDS", "20")
    with_every_dsn(monkeypatch, account_of(servers.mart_dsn, "mart_writer", PASSWORD))
    done = subprocess.run(
        [sys.executable, "-m", "cli", "run", *ARGUMENTS["run"]],
        cwd=ROOT, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "password authentication failed" in done.stderr
    assert shown(done.stdout + done.stderr) == []


def test_the_page_of_a_refused_password(home, servers):
    dsn = account_of(servers.mart_dsn, "analytics_reader", PASSWORD)
    with served(dsn, MART_HOME=str(home)) as page:
        url = page.url()
        seen = [
            fetched(url + path) for path in ("", "api/page", "api/customer/1", "api/products", "api/recommend?code=A")
        ]
        with urllib.request.urlopen(url + "api/events", timeout=20) as events:
            while b"data: " not in (line := events.readline()):
                pass
        seen.append(line.decode())
        code, errors = page.ended(15)
    assert code == 0
    assert "password authentication failed" in seen[-1]
    assert "password authentication failed" in seen[2]
    assert shown("\n".join([*seen, errors])) == []


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return str(error.headers) + error.read().decode()


def test_what_nobody_foresaw_is_told_without_a_secret(home, monkeypatch):
    dsn = f"postgresql://writer:{quote(PASSWORD, safe='')}@127.0.0.1:1/mart"
    with_every_dsn(monkeypatch, dsn)

    def fail(*_arguments, **_options):
        raise RuntimeError(f"{dsn} {PASSWORD!r} {PASSWORD} {json.dumps(OTHERS)}") from ValueError(PASSWORD)

    monkeypatch.setattr("psycopg2.connect", fail)
    monkeypatch.setattr("lake.table.lake_exists", fail)
    for verb in ("migrate", "explain", "runs", "rejected list"):
        ended = run_in(home, verb)
        assert ended.code == 1
        assert "RuntimeError" in ended.text, (verb, ended)
        assert "***" in ended.text
        assert shown(ended.text) == [], (verb, ended)
