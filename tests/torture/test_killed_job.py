"""kill -9 of the whole job, Spark and all, while records arrive. `make torture` does it forty times, at all moments."""

from __future__ import annotations

import random

import pytest

from torture.kill_points import ANY_MOMENT, CHECKPOINT_WRITE
from torture.scenarios import play
from torture.story import Scale

pytestmark = [pytest.mark.stack, pytest.mark.slow]

# Of what is in one transaction every point is tried without Spark (test_torture.py); here what Spark adds.
MOMENTS = ("before commit", "after the lake's commit", CHECKPOINT_WRITE, ANY_MOMENT)


def test_killed_while_it_reads_commits_and_writes_its_checkpoint(world):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    outcome = play(world, "killed job", seed, Scale(job_kills=len(MOMENTS), job_moments=MOMENTS))
    assert outcome.differences == []
    assert outcome.kills.total() == len(MOMENTS)
