"""What the documents say: links lead somewhere, commands parse, every setting, verb and option is there.

WRITE_DOCS=1 writes docs/reference.md anew from the commands' own help.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from cli.main import app
from conf.table import settings_table
from tests.builders.files import ROOT

DOCUMENTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]
CLI = typer.main.get_command(app)
UsageError = typer.BadParameter.__mro__[1]  # of click, or of the copy that newer releases of typer carry


def _without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """GitHub's anchors of the headings: lower case, punctuation dropped, a hyphen for a space."""
    headings = re.findall(r"^#+ (.*)$", _without_blocks(document.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links() -> list[tuple[Path, str]]:
    return [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", _without_blocks(document.read_text()))
        for target in target
        if target and not re.match(r"[a-z]+:", target)
    ]


def _commands(program: str) -> list[tuple[str, str]]:
    """(document, command) for each line of a fenced block, and each inline code, that begins with `program`."""
    found = []
    for document in DOCUMENTS:
        if document.name == "CHANGELOG.md":  # names commands as they were
            continue
        text = document.read_text()
        lines = [line for block in re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL) for line in _lines(block)]
        inline = re.findall(r"`([^`]+)`", _without_blocks(text))
        found += [
            (document.name, " ".join(command.split()))
            for command in [*lines, *inline]
            if command.strip().startswith(program)
        ]
    return sorted(set(found))


def _lines(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def _arguments(command: str) -> list[str]:
    """The words after the program's name, up to a comment, a pipe or the next command."""
    reader = shlex.shlex(command.replace("…", ""), posix=True, punctuation_chars=";&|<>")
    reader.whitespace_split = True
    words = list(reader)
    end = next((at for at, word in enumerate(words) if re.fullmatch(r"[|&;]+|>+", word)), len(words))
    return words[1:end]


def _parse(arguments: list[str]) -> None:
    """Raises UsageError where a verb, an option or a value's form is wrong. A missing argument is no fault: a document
    may name the command alone."""
    command, name, rest = CLI, "retail-mart", arguments
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        context = command.context_class(command, info_name=name)
        found, command, rest = command.resolve_command(context, rest)
        name = found or name
    try:
        command.make_context(name, list(rest))
    except (typer.Exit, UsageError) as error:  # Exit: --help
        if type(error).__name__ not in ("Exit", "MissingParameter", "NoArgsIsHelpError"):
            raise


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    lost = []
    for source, target in _links():
        if source != document:
            continue
        path, _, anchor = target.partition("#")
        aim = (source.parent / path).resolve() if path else source
        if not aim.exists() or (anchor and anchor not in _anchors(aim)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize(
    ("document", "command"), _commands("retail-mart "), ids=lambda value: value if " " in value else Path(value).stem
)
def test_commands_parse(document, command):
    try:
        _parse(_arguments(command))
    except UsageError as error:
        pytest.fail(f"{document}: {command}: {error.format_message()}")


def test_a_wrong_command_is_found():
    for wrong in ("retail-mart no-verb", "retail-mart verify --no-option", "retail-mart verify --wait soon"):
        with pytest.raises(UsageError):
            _parse(_arguments(wrong))


def test_make_targets_are_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {words[0] for _, command in _commands("make ") if (words := _arguments(command))}
    assert named >= {"demo", "test", "bench"}
    assert {name for name in named if "=" not in name} - targets == set()


def test_the_settings_are_those_of_the_code():
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text(), (
        "put the output of `retail-mart settings` into docs/settings.md"
    )


def _reference() -> str:
    """All help texts as Markdown, by typer's own command; without its lists of verbs, which it cuts at 45 letters."""
    command = [sys.executable, "-m", "typer", "cli.main", "utils", "docs", "--name", "retail-mart"]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    written = subprocess.run(
        [*command, "--title", "Every command and option"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", written)


def test_the_reference_is_that_of_the_code():
    page = ROOT / "docs" / "reference.md"
    if os.environ.get("WRITE_DOCS"):
        page.write_text(_reference())
    assert page.read_text() == _reference(), "WRITE_DOCS=1 python -m pytest tests/docs writes it anew"


def test_every_verb_is_in_the_commands():
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in CLI.commands if f"`{name}" not in text and f"`retail-mart {name}" not in text] == []
