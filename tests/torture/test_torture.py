"""A short torture, and the mutants: `make torture` and `make torture-mutants` play it all."""

from __future__ import annotations

import random

import pytest

from torture.mutants import MUTANTS
from torture.red import baseline, red
from torture.scenarios import play
from torture.story import Scale

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_killed_at_every_point_of_the_transaction_path(world):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    outcome = play(world, "killed path", seed, Scale(path_kills=12))
    assert outcome.differences == []
    assert outcome.kills.total() == 12


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_its_guard_a_scenario_turns_red(world, mutant):
    assert baseline(world, mutant, seed=1) == []
    assert red(world, mutant, seed=1) != []
