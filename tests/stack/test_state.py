"""The state file: what is written is read, by its owner alone, and settings take their part of it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.dsn import in_utf8
from conf.settings import STATE_FILE_NAME, Settings
from stack import state as state_module
from stack.state import Server, State, read_state, write_state

SERVER = Server(pid=1, created=1.5, port=9092, log=Path("/l"))
WHOLE = State(
    kafka_bootstrap_servers="127.0.0.1:9092",
    mart_dsn="postgresql://mart_writer:w@127.0.0.1:5/mart",
    mart_owner_dsn="postgresql://mart_owner:o@127.0.0.1:5/mart",
    mart_reader_dsn="postgresql://analytics_reader:r@127.0.0.1:5/mart",
    superuser_dsn="postgresql://postgres:s@127.0.0.1:5/mart",
    broker=SERVER,
    database=SERVER,
)
EXTERNAL = ("KAFKA_BOOTSTRAP_SERVERS", "MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN")

texts = st.none() | st.text()
servers = st.none() | st.builds(
    Server,
    pid=st.integers(1, 2**22),
    created=st.floats(0, 4e9),
    port=st.integers(1, 65535),
    log=st.just(Path("/a/b")),
)


@given(st.builds(State, kafka_bootstrap_servers=texts, mart_dsn=texts, broker=servers, database=servers))
def test_round_trip(tmp_path_factory, state):
    home = tmp_path_factory.mktemp("home")
    write_state(home, state)
    assert read_state(home) == state


def test_it_is_private_also_where_a_readable_one_was(tmp_path):
    (tmp_path / STATE_FILE_NAME).write_text("{}")
    (tmp_path / STATE_FILE_NAME).chmod(0o644)
    write_state(tmp_path, WHOLE)
    assert stat.S_IMODE((tmp_path / STATE_FILE_NAME).stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [STATE_FILE_NAME]


def test_a_write_cut_short_leaves_the_old_one(tmp_path, monkeypatch):
    write_state(tmp_path, WHOLE)
    monkeypatch.setattr(state_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_state(tmp_path, State())
    assert read_state(tmp_path) == WHOLE
    assert [p.name for p in tmp_path.iterdir()] == [STATE_FILE_NAME]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"broker": {"pid": "x"}}', "\xff"])
def test_no_readable_state_is_an_empty_one(tmp_path, text):
    if text is not None:
        (tmp_path / STATE_FILE_NAME).write_text(text, encoding="latin-1")
    assert read_state(tmp_path) == State()


def test_settings_read_it(tmp_path, monkeypatch):
    for name in EXTERNAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    write_state(tmp_path, WHOLE)
    settings = Settings()
    assert settings.require_kafka() == WHOLE.kafka_bootstrap_servers
    assert settings.require_mart("writer") == in_utf8(WHOLE.mart_dsn)
    assert settings.require_mart("owner") == in_utf8(WHOLE.mart_owner_dsn)
    assert settings.require_mart("reader") == in_utf8(WHOLE.mart_reader_dsn)


def test_a_server_of_the_environment_hides_the_embedded_one_whole(tmp_path, monkeypatch):
    for name in EXTERNAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    monkeypatch.setenv("MART_DSN", "postgresql://elsewhere/mart")
    write_state(tmp_path, WHOLE)
    settings = Settings()
    assert settings.require_kafka() == WHOLE.kafka_bootstrap_servers
    assert {settings.require_mart(role) for role in ("writer", "owner", "reader")} == {
        in_utf8("postgresql://elsewhere/mart")
    }


def test_environment_names_the_settings(tmp_path):
    assert sorted(WHOLE.environment()) == sorted(EXTERNAL)
    write_state(tmp_path, State(broker=SERVER))
    assert list(json.loads((tmp_path / STATE_FILE_NAME).read_text())) == ["broker"]
    assert read_state(tmp_path).environment() == {}
