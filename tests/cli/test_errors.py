"""Which error ends a command with which exit code; in broken surroundings: test_broken.py."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from conf.errors import UnavailableError
from conf.settings import Settings
from tests.builders.verbs import run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty MART_HOME; no server is named."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")


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


@pytest.mark.usefixtures("home")
def test_what_nobody_foresaw_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("lake.files.compact", fail)
    done = run("compact")
    assert (done.code, "RuntimeError: unforeseen" in done.err) == (1, True)


@pytest.mark.usefixtures("home")
def test_a_foreign_error_is_mapped(monkeypatch):
    from kafka.errors import NodeNotReadyError

    def fail(*_):
        raise NodeNotReadyError("not now")

    monkeypatch.setattr("lake.files.compact", fail)
    done = run("compact")
    assert (done.code, done.err) == (4, f"gave up: Kafka: NodeNotReadyError: not now{UnavailableError.when_back}\n")
