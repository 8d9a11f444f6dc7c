"""How commands end in broken surroundings: one sentence, the documented exit code, no traceback."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from urllib.parse import urlsplit, urlunsplit

import pytest

from conf.settings import Settings
from stack.process import free_port
from tests.integration.verbs import Ended, run

# What each verb needs to do its work; {home} is MART_HOME.
ASK_THE_MART = {
    "migrate": (),
    "explain": ("c1",),
    "verify": ("--wait", "0"),
    "verify --repair": ("--wait", "0"),
    "prune": ("--yes",),
    "backup": (),
    "export": ("c1",),
    "erase": ("c1", "--yes"),
    "erase --listed": ("--yes",),
    "rejected list": (),
    "rejected show": ("0:1",),
    "rejected redrive": ("--all",),
    "runs": (),
    "rollback": ("1",),
    "check": (),
    "recommend": ("A1",),
    "mine": (),
    "landed": (),
}
ASK_KAFKA = {"rewind": (), "replay": ("{home}/shop",), "live": ("--duration", "0.2")}
ASK_THE_LAKE = {"compact": ()}
EVERY = {**ASK_THE_MART, **ASK_KAFKA, **ASK_THE_LAKE}
MIGRATE = "retail-mart migrate"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A MART_HOME with a shop's files and nothing else; no server is named."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "MART_HOME": str(tmp_path),
        "KAFKA_TIMEOUT_SECONDS": "0.3",
        "COLUMNS": "300",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mart.status._PATIENCE_SECONDS", 0.1)
    assert run("generate", "--lines", "100", "--days", "1", "--output", str(tmp_path / "shop")).code == 0
    return tmp_path


def ended(verb: str, home) -> Ended:
    name, *options = verb.split(" --")
    done = run(name, *(f"--{option}" for option in options), *(a.format(home=home) for a in EVERY[verb]))
    assert "Traceback" not in done.text, (verb, done)
    return done


def with_every_dsn(monkeypatch, dsn: str) -> None:
    for name in ("MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN"):
        monkeypatch.setenv(name, dsn)


def test_without_any_server_each_verb_says_how_to_have_one(home):
    for verb in (*ASK_THE_MART, *ASK_KAFKA, *ASK_THE_LAKE):
        done = ended(verb, home)
        assert done.code == 1, (verb, done)
        [line] = done.text.strip().splitlines()
        assert "`retail-mart " in line or "no lake at" in line, (verb, done)


def test_a_server_that_does_not_answer_is_4(home, monkeypatch):
    with_every_dsn(monkeypatch, f"postgresql://writer:secret@127.0.0.1:{free_port()}/mart")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    for verb in ASK_THE_MART:
        done = ended(verb, home)
        if verb in ("mine", "landed") and done.code == 1:  # they look for the lake first
            assert "no lake at" in done.text
            continue
        assert done.code == 4, (verb, done)
        assert done.text.startswith("gave up: "), (verb, done)
    assert ended("rewind", home).code == 4
    assert ended("replay", home).code == 1  # of the producer, as documented: the delivery failed
    assert run("status").code == 4


@pytest.mark.stack
def test_a_wrong_password_is_1(home, monkeypatch, servers):
    url = urlsplit(servers.mart_dsn)
    with_every_dsn(monkeypatch, urlunsplit(url._replace(netloc=f"{url.username}:wrong@{url.hostname}:{url.port}")))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    for verb in ASK_THE_MART:
        done = ended(verb, home)
        assert done.code == 1, (verb, done)
        assert "password authentication failed" in done.text or "no lake at" in done.text, (verb, done)


@pytest.mark.stack
def test_a_mart_without_tables_is_1_and_names_migrate(home, monkeypatch, fresh_mart, servers):
    for name, dsn in (
        ("MART_DSN", fresh_mart.writer_dsn),
        ("MART_OWNER_DSN", fresh_mart.owner_dsn),
        ("MART_READER_DSN", fresh_mart.reader_dsn),
        ("KAFKA_BOOTSTRAP_SERVERS", servers.kafka_bootstrap_servers),
    ):
        monkeypatch.setenv(name, dsn)
    monkeypatch.setenv("KAFKA_TIMEOUT_SECONDS", "10")
    for verb in ASK_THE_MART:
        if verb == "migrate":
            continue
        done = ended(verb, home)
        assert done.code == 1, (verb, done)
        assert MIGRATE in done.text or "no lake at" in done.text or "nothing to back up" in done.text, (verb, done)


def test_every_error_that_our_packages_raise_for_an_operator_has_an_exit_code():
    """A new one derives from a class of the table; what never reaches a command is named here."""
    inside = {
        "_NotReadyError", "_PassingError", "NotDeliveredError", "TooManyItemsetsError", "UnreadableError",
        "RejectedError", "RefusedError", "MaskedError",
        "producer.csv_invoices.LineError",
    }  # fmt: skip
    table = importlib.import_module("cli.errors")
    known = tuple(kind for kind, _, _ in table._TABLE)
    without = []
    for package in ("batch_rules", "conf", "dashboards", "demo", "jvm", "lake", "mart", "operations", "producer",
                    "stack", "streaming", "topic"):  # fmt: skip
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            found = importlib.import_module(module.name)
            for name, kind in inspect.getmembers(found, inspect.isclass):
                if not issubclass(kind, Exception) or kind.__module__ != module.name or issubclass(kind, known):
                    continue
                if {name, f"{module.name}.{name}"}.isdisjoint(inside):
                    without.append(f"{module.name}.{name}")
    assert without == []


def test_what_nobody_foresaw_keeps_its_traceback(home, monkeypatch):
    def fail(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("lake.files.compact", fail)
    done = run("compact")
    assert (done.code, "RuntimeError: unforeseen" in done.err) == (1, True)


def test_a_foreign_error_is_mapped(home, monkeypatch):
    from kafka.errors import NodeNotReadyError

    def fail(*_):
        raise NodeNotReadyError("not now")

    monkeypatch.setattr("lake.files.compact", fail)
    done = run("compact")
    assert (done.code, done.err) == (4, "gave up: Kafka: NodeNotReadyError: not now\n")
