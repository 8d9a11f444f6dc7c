"""One word for one thing: words and phrases that were replaced stand nowhere in what people read, or write against."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.builders.files import ROOT

# The old word or phrase, and what is said now.
OLD = {
    r"\btiles?\b": "quintile",
    r"\bstream_position\b|\bread_positions\b|\bmart's positions?\b|\blake's positions?\b": "next offset",
    r"\b(quintile|tile)('s)? boundar(y|ies)\b": "cut",
    r"\bstayed away\b|\b(broker|Kafka|PostgreSQL|server|mart|storage) is away\b": "unavailable",
    r"\bhas not the tables\b|\blacks tables\b|\bwithout tables of this version\b": "the mart's schema is out of date",
    r"\bare of --\w+": "require --…",
    r"\btell its makers\b": "this is a bug, please report it",
    r"\b[Ll]east level logged\b": "minimum log level",
    r"\bcuts of the tiles\b": "quintile cuts",
    r"\bwas taken as the mart carries it\b": "their carried totals were used",
    r"\bno such record waits\b|\bno quarantined record .* waits\b": "no matching records, quarantine is empty",
    r"\bnothing is older: nothing to remove\b": "nothing to remove",
    r"\berased since then, and again now\b": "re-erased",
    r"\bsay whom\b": "specify a CUSTOMER",
    r"\bis no (rate|speed)\b|' is no record": "is not a valid …",
    r"\bthe stream stands still\b": "the stream has stalled",
    r"\bSo many times faster\b|\bStop after so many\b|\bInvoices in a time\b": "speed, Stop after N, Rate",
    r"\ban operator has something to do\b": "operator action required",
    r"\bWork the rules out anew\b": "Recompute the rules",
    r"\bInvoices a (second|minute)\b|\bSpent in all\b|\bthe mart refuses\b": "per second, total spent, query failed",
}
# A dashboard's tiles are Metabase's word; a migration and the changelog name what was.
EXEMPT = re.compile(
    r"CHANGELOG\.md|sql/migrations/0013_words\.sql|tests/docs/test_words\.py|docs/metabase\.md|"
    r"(tests/)?dashboards/(metabase|static/vendor)/.*|.*\.(png|gz|json|min\.js)|tests/dashboards/test_cards\.py"
)


def _texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    paths = [path for path in listed if path and not EXEMPT.fullmatch(path) and (ROOT / path).is_file()]
    return {path: (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in paths}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return _texts()


@pytest.mark.parametrize(("old", "now"), OLD.items(), ids=OLD.values())
def test_an_old_word_is_gone(texts, old, now):
    pattern = re.compile(old)
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == [], f"say: {now}"
