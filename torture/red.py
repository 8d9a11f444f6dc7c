"""Red: for each mutant the shortest story that must catch it, on the transaction path."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from torture.story import Story
from torture.world import World

# mutant → the kills (point, times) that its story needs, a life each; "zombie": a held writer that wakes.
_NEEDS: dict[str, Sequence[tuple[str, int]] | str] = {
    "writer fence": "zombie",
    "offset check": [("after commit", 1)],
    "ON CONFLICT": [],
    "next offsets in the transaction": [("before commit", 2)],
    "quarantine in the transaction": [("after commit", 1)] * 10,  # one batch in four holds no wrong record
    "cut adjustment": [],
    "next offsets in the lake's commit": [("after the lake's commit", 1)],
}


def baseline(world: World, mutant: str, seed: int) -> list[str]:
    """The differences that the mutant's story finds with every guard in place: none, if it is sound."""
    return _play(world, mutant, seed)


def red(world: World, mutant: str, seed: int) -> list[str]:
    """The differences that the mutant's story finds without the guard."""
    return _play(world, mutant, seed, "--mutant", mutant)


def _play(world: World, mutant: str, seed: int, *without: str) -> list[str]:
    needs = _NEEDS[mutant]
    with world.pipeline() as pipeline:
        story = Story(world, pipeline, seed)
        pipeline.send(story.traffic.messy(900))
        if isinstance(needs, str):
            story.wake_a_zombie(*without)
        else:
            for point, times in needs:
                with story.path("--kill", point, str(times), *without) as life:
                    story.expect(life, -signal.SIGKILL)
        with story.path(*without) as last:
            story.expect(last)
        return story.outcome.differences + pipeline.differences()
