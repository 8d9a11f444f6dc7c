from __future__ import annotations

import pytest

from conf.phases import Phases


def test_a_phase_is_told_at_both_ends_and_one_that_fails_at_its_beginning_only():
    told: list[str] = []
    phases = Phases(lambda name: told.append(f"{name} begins"), lambda name: told.append(f"{name} ended"))
    with phases("copy"), phases("within"):
        pass
    with pytest.raises(ZeroDivisionError), phases("commit"):
        raise ZeroDivisionError
    assert told == ["copy begins", "within begins", "within ended", "copy ended", "commit begins"]
    assert list(phases.seconds) == list(phases.milliseconds()) == ["within", "copy"]
    assert phases.seconds["copy"] >= phases.seconds["within"] >= 0
