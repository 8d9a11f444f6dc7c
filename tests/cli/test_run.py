"""What every command has in common: its terminal, its arguments, its help."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.builders.files import ROOT
from tests.builders.verbs import run, verbs

_OURS = sorted(verb for verb in verbs() if verb.split()[0] not in ("bench", "torture"))
linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


def shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """A script of bash in which $MART is `retail-mart`."""
    environment = os.environ | {"MART": f"{sys.executable} -m cli"}
    return subprocess.run(["bash", "-o", "pipefail", "-c", script], cwd=ROOT, env=environment, capture_output=True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_is_told_all_the_same(encoding):
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"}
    told = subprocess.run([sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, env=environment)
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"Kafka \\u2192 Spark" in told.stdout


@linux
@pytest.mark.parametrize("verb", ["--help", "settings"])
def test_a_full_disk_behind_standard_output_is_one_sentence(verb):
    ended = shell(f"$MART {verb} >/dev/full")
    assert (ended.returncode, ended.stderr) == (1, b"standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("verb", ["--help", "settings"])
def test_a_reader_that_has_gone_ends_it_silently_as_sigpipe_does(verb):
    ended = shell(f"(sleep 0.5; $MART {verb}) | true")
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, b"", b"")


def test_a_closed_standard_output_is_no_reason_to_fail():
    ended = shell("$MART settings >&-")
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_argument_that_is_no_utf_8_is_refused():
    ended = shell(r"$MART explain $'c\xff'")
    assert (ended.returncode, ended.stderr) == (2, b"argument 2 is not UTF-8: c\\xff; give it in UTF-8\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--wait", "x"], "'--wait': must be a number (got 'x')"),
        (["explain", "c", "--newest", "0"], "'--newest': must be greater than or equal to 1 (got '0')"),
        (["page", "--port", "99999"], "'--port': must be less than or equal to 65535 (got '99999')"),
        (["run", "--only", "both"], "'--only': 'both' is not one of 'apply', 'land'."),
        (["rejected", "list", "--reason", "bad"], "'--reason': 'bad' is not one of 'no_value', 'too_large'"),
        (["mine", "--support", "3"], "'--support': '3' is not a share: give a number from 0 to 1"),
    ],
    ids=["a number", "too small", "too large", "a choice", "a choice of many", "a share"],
)
def test_a_wrong_argument_is_told_with_its_value_and_what_is_right(arguments, says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    ended = run(*arguments)
    assert ended.code == 2
    assert f"Invalid value for {says}" in ended.err
    for of_pydantic in ("Value error", "Input should", "unable to parse"):
        assert of_pydantic not in ended.err


@pytest.mark.parametrize("verb", _OURS)
def test_each_verb_has_a_help_that_is_whole_at_80_columns(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ended = run(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: retail-mart {verb}" in ended.out
    assert "…" not in ended.out, "cropped"
    assert re.findall(r"<(?:bool|dir|file|float|int|list|path|str)\b", ended.out) == [], "a type of Python for a noun"
    _, *paragraphs = re.split(r"\n *\n", ended.out.partition("╭")[0].strip())
    assert [text for text in map(str.strip, paragraphs) if text[-1] not in ".:)"] == [], "broken within a sentence"


def test_a_program_that_is_not_there_starts_no_servers(tmp_path):
    ended = shell(f"MART_HOME={tmp_path}/home $MART with-servers no-such-program")
    assert ended.returncode == 2
    assert ended.stderr == b"no program 'no-such-program': give one that is on the PATH, or its path\n"
    assert not (tmp_path / "home").exists()


def test_help_imports_nothing_of_what_the_verbs_do():
    program = (
        "import sys; from cli.main import main\n"
        "sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0
    imported = set(eval(ended.stderr))
    heavy = {"pyspark", "psycopg2", "kafka", "deltalake", "duckdb", "pyarrow", "numpy", "pandas", "pydantic", "httpx"}
    assert imported & heavy == set()
    assert imported & {"streaming", "operations", "dashboards", "producer", "stack", "demo", "jvm", "lake"} == set()
