"""Every verb in broken surroundings: a sentence that names the fix, the documented exit code, no traceback.

The table of docs/commands.md is what came of it: WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import os
import re

import pytest

import stack
from tests.builders.files import ROOT
from tests.builders.verbs import verbs
from tests.cli.broken import ASK_NOTHING, BREAKS, FIX, VERBS, WORKS, Outcome, Verb, outcomes, surrounding, table

_DOCUMENT = ROOT / "docs" / "commands.md"
_SECTION = re.compile(r"(?<=<!-- tests/cli/test_broken.py -->\n\n).*(?=\n\n<!-- end -->)", re.DOTALL)


@pytest.fixture(scope="module")
def found(servers: stack.State, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Verb, Outcome]]:
    """What came of each verb in each surrounding."""
    assert servers.kafka_bootstrap_servers
    topic = "broken-surroundings"
    stack.ensure_topic(servers.kafka_bootstrap_servers, topic, 1)
    done = {}
    for name in BREAKS:
        home = tmp_path_factory.mktemp("home")
        with surrounding(name, servers, topic, home) as dump:
            done[name] = outcomes(name, home, dump)
    stack.delete_topic(servers.kafka_bootstrap_servers, topic)
    return done


def test_each_verb_has_its_entry():
    """A new one is put into VERBS, or into ASK_NOTHING with a reason."""
    ours = {verb for verb in verbs() if verb.split()[0] not in ("bench", "torture")}
    assert {verb.name for verb in VERBS} | ASK_NOTHING.keys() == ours
    assert {(verb, name) for verb, name in WORKS if verb not in ours or name not in BREAKS} == set()


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("name", BREAKS)
def test_each_verb_ends_with_the_fix_and_the_documented_code(found, name):
    for verb, outcome in found[name].items():
        assert "Traceback" not in outcome.text, (verb, outcome)
        assert FIX.search(outcome.text), (verb, outcome)
        code = 4 if outcome.text.startswith("gave up: ") or "\ngave up: " in outcome.text else 1
        if verb.name == "status" and name != "nothing running":
            code = 4  # who cannot be asked is in its table; `watch --once` ends with 1 where something fires
        assert outcome.code == code, (verb, outcome)


@pytest.mark.slow
@pytest.mark.stack
def test_the_table_of_the_commands(found):
    text, now = _DOCUMENT.read_text(), table(found)
    if os.environ.get("WRITE_DOCS"):
        _DOCUMENT.write_text(_SECTION.sub(lambda _: now, text))
        return
    [written] = _SECTION.findall(text)
    assert now == written
