"""Which package may import which: the contracts of [tool.importlinter] in pyproject.toml."""

import re

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.conftest import ROOT


def test_imports_go_one_way(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS


def test_what_the_tour_names_is_there():
    tour = (ROOT / "docs" / "contributing.md").read_text()
    named = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?)`", tour)
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []
