"""A fake Metabase, and the command line against it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conf.settings import settings
from tests.builders.metabase import READER, card
from tests.builders.verbs import run
from tests.dashboards.metabase.fake import FakeMetabase, serving


class CommandLine:
    """`retail-mart metabase …` with the cards that a test has put into `cards`."""

    def __init__(self) -> None:
        self.cards = [
            card("segments"),
            card("moves", "table", "changed_at timestamptz, cause text", sql="SELECT * FROM mart.moves LIMIT 5"),
            card("trend", "line", "minute timestamptz, customer_segment text, customers bigint"),
        ]

    def __call__(self, command: str) -> tuple[int, str]:
        ended = run(f"metabase {command}")
        return ended.code, ended.text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MART_HOME, and the reader's DSN at another address than Metabase's."""
    for name in (
        "METABASE_ADMIN_PASSWORD",
        "METABASE_ADMIN_EMAIL",
        "METABASE_API_KEY",
        "METABASE_DATABASE_PORT",
        "MART_DSN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    monkeypatch.setenv("MART_READER_DSN", "postgresql://analytics_reader:sec%2Fret@127.0.0.1:5433/mart")
    monkeypatch.setenv("METABASE_DATABASE_HOST", "10.0.0.5")
    monkeypatch.setenv("METABASE_TIMEOUT_SECONDS", "30")
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def command_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    command_line = CommandLine()
    monkeypatch.setattr("dashboards.cards.cards", lambda: command_line.cards)
    monkeypatch.setenv("COLUMNS", "200")
    return command_line


@pytest.fixture
def metabase(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMetabase]:
    """A fresh Metabase. The test fails if a request or an answer was not of the documented API."""
    fake = FakeMetabase(READER)
    with serving(fake) as url:
        monkeypatch.setenv("METABASE_URL", url)
        yield fake
    assert fake.violations == []
