"""Red: for each mutant the shortest scenario that must catch it, on the transaction path."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from torture.traffic import Traffic
from torture.world import Life, Line, World, wait_until

# mutant → the kills (point, times) that its scenario needs, a life each; "zombie": a held writer that wakes.
_NEEDS: dict[str, Sequence[tuple[str, int]] | str] = {
    "writer fence": "zombie",
    "position check": [("after commit", 1)],
    "ON CONFLICT": [],
    "positions in the transaction": [("before commit", 2)],
    "quarantine in the transaction": [("after commit", 1)] * 10,  # one batch in four holds no wrong record
    "cut adjustment": [],
    "positions in the lake's commit": [("after the lake's commit", 1)],
}


def baseline(world: World, mutant: str, seed: int) -> list[str]:
    """The differences that the mutant's scenario finds with every guard in place: none, if it is sound."""
    return _play(world, mutant, seed, ())


def red(world: World, mutant: str, seed: int) -> list[str]:
    """The differences that the mutant's scenario finds without the guard."""
    return _play(world, mutant, seed, ("--mutant", mutant))


def _play(world: World, mutant: str, seed: int, without: Sequence[str]) -> list[str]:
    needs = _NEEDS[mutant]
    with world.line() as line:
        found: list[str] = []
        line.send(Traffic(seed).messy(900))
        if isinstance(needs, str):
            found += _wake_a_zombie(line, without)
        else:
            for point, times in needs:
                with line.life("torture.driver", "--kill", point, str(times), *without) as life:
                    if life.wait() != -signal.SIGKILL:
                        found.append(f"a life that was to be killed {point} was not: {life.tail()}")
        with line.life("torture.driver", *without) as life:
            found += _expect(life, 0)
        return found + line.differences()


def _wake_a_zombie(line: Line, without: Sequence[str]) -> list[str]:
    with line.life("torture.driver", "--stop", "after poll", "2", *without) as zombie:
        wait_until(zombie.stopped, 60, "the zombie does not stop", zombie)
        with line.life("torture.driver", *without) as successor:
            found = _expect(successor, 0)
        zombie.signal(signal.SIGCONT)
        return found + _expect(zombie, 3)


def _expect(life: Life, code: int) -> list[str]:
    ended = life.wait()
    return [] if ended == code else [f"exit code {ended}, not {code}: {life.tail()}"]
