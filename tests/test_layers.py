"""Which package may import which (the contracts of [tool.importlinter] in pyproject.toml); of tests, none any."""

import ast
import re

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.builders.files import ROOT


def test_imports_go_one_way(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS


def test_no_test_is_imported():
    """What two tests share is in tests/builders/. A fixture of another folder comes by that folder's conftest."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(name.name for name in node.names)]
                if names[0] != "tests":
                    continue
            elif isinstance(node, ast.Import):
                names = [part for name in node.names if name.name.startswith("tests.") for part in name.name.split(".")]
            else:
                continue
            assert not [name for name in names if name.startswith("test_")], f"{path}:{node.lineno}"
            assert "conftest" not in names or path.name == "conftest.py", f"{path}:{node.lineno}"


def test_what_the_tour_names_is_there():
    tour = (ROOT / "docs" / "contributing.md").read_text()
    named = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?)`", tour)
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_each_case_has_an_id_that_reads_like_it(request):
    """Of those that were collected: in a whole run, all."""
    for item in request.session.items:
        case = getattr(item, "callspec", None)
        if case is not None:
            numbered = [name for name, index in case.indices.items() if f"{name}{index}" in case.id.split("-")]
            assert not numbered, f"{item.nodeid}: give the cases ids, or teach tests/builders/case_ids.py their type"
            assert not re.search(r"<lambda>|<\w+ object| at 0x", case.id), f"{item.nodeid}: an object's repr"
