"""Story: what every scenario is made of: its own pipeline, seeded traffic, and what must be true in the end."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from stack.command import Command, CommandError, wait_until
from torture.kill_points import ANY_MOMENT, CHECKPOINT_WRITE, POINTS
from torture.oracle import Acknowledged
from torture.pipeline import Pipeline
from torture.traffic import Traffic
from torture.world import World

PATH = "torture.driver"
RUN = ("run", "--warm-up-rounds", "0")
READING = '"event": "reading"'
_FENCED = 3


class SkippedError(Exception):
    """The scenario cannot be played on this machine; the message says why."""


@dataclass(frozen=True)
class Scale:
    """How much of each scenario is played: kills of the transaction path, and of the whole job; wrong records per
    class; seconds that something stays unavailable or locked; the size of the largest batch and customer; mutated
    records; how many records of a megabyte are waiting; and the moments at which the whole job is killed, in turn."""

    path_kills: int = 300
    job_kills: int = 40
    wrong_each: int = 100
    unavailable_seconds: int = 30
    locked_seconds: int = 60
    largest: int = 100_000
    customer_invoices: int = 50_000
    mutated: int = 100_000
    big_records: int = 1_300
    job_moments: Sequence[str] = (*POINTS, CHECKPOINT_WRITE, ANY_MOMENT)


@dataclass
class Outcome:
    """What a scenario did: how often the process was started, the records sent, the kills by their point, and the
    differences from the oracle."""

    lives: int = 0
    records: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


@dataclass
class Story:
    """One act of a scenario, on a pipeline of its own."""

    world: World
    pipeline: Pipeline
    seed: int
    scale: Scale = field(default_factory=Scale)
    outcome: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        self.traffic, self.rng = Traffic(self.seed), random.Random(self.seed)

    def path(self, *options: str) -> Command:
        """The transaction path, to the topic's end."""
        self.outcome.lives += 1
        return self.pipeline.life(PATH, *options)

    def job(self, *options: str) -> Command:
        """The whole job."""
        self.outcome.lives += 1
        return self.pipeline.life("cli", *RUN, *options)

    @contextmanager
    def running_job(self, seconds: float = 300) -> Iterator[Command]:
        """The whole job from when it reads until all that was sent is applied and landed, within so long."""
        with self.job() as job:
            job.wait_for(READING)
            yield job
            self.pipeline.wait_until_caught_up(job, seconds)
            job.stop()
            self.expect(job)

    def job_to_the_end(self, *options: str, seconds: float = 300) -> None:
        """A life of the whole job that reaches the topic's end."""
        with self.job("--available-now", *options) as job:
            self.expect(job, seconds=seconds)

    def rewind(self) -> None:
        with self.pipeline.life("cli", "rewind", "--yes") as rewind:
            rewind.succeed()

    def expect(self, life: Command, code: int = 0, words: str = "", seconds: float = 300) -> None:
        """It ends with this code, and has said these words."""
        ended = life.wait(seconds)
        if ended != code:
            self.differ(f"exit code {ended}, not {code}: {life.tail()}")
        elif words not in life.text():
            self.differ(f"exit code {ended} without {words!r}: {life.tail()}")

    def differ(self, *differences: str) -> None:
        self.outcome.differences += differences

    def check(self, times_read: int = 1, seconds: float = 300) -> None:
        """Mart and lake against the oracle, and `verify`."""
        self.differ(*self.pipeline.differences(times_read), *self.pipeline.verified(seconds))

    def finish(self) -> None:
        """A last life of the whole job, and all checks."""
        self.job_to_the_end()
        self.check()

    def kill_at(self, points: Sequence[str], kills: int, live: Callable[[str], None]) -> None:
        """Live and be killed, at one point after the other, until there were so many kills."""
        for life in range(4 * (kills + len(points))):
            if self.pipeline.kills.total() >= kills:
                return
            self.outcome.lives += 1
            live(points[life % len(points)])
        raise CommandError("the kill points are not reached")

    def wake_a_zombie(self, *options: str) -> None:
        """A writer that SIGSTOP held wakes up after its successor has committed."""
        with self.path("--stop", "after poll", "2", *options) as zombie:
            wait_until(zombie.is_held, 60, "the zombie does not stop", zombie)
            with self.path(*options) as successor:
                self.expect(successor)
            zombie.signal(signal.SIGCONT)
            self.expect_fenced(zombie)

    def expect_fenced(self, older: Command) -> None:
        self.expect(older, _FENCED, "only one job may write")

    def lose_records(self) -> tuple[dict[int, int], dict[int, int]]:
        """Records are sent, and the first 25 of them in each partition are deleted; from which offsets up to which."""
        read = self.pipeline.end_offsets()
        self.pipeline.send(self.traffic.messy(200))
        lost = {partition: offset + 25 for partition, offset in read.items()}
        self.pipeline.delete_records(lost)
        return read, lost

    def accept_gap(self, read: Mapping[int, int], lost: Mapping[int, int]) -> None:
        """--accept-gap goes on without the records from `read` up to `lost` of each partition, only without them."""
        self.job_to_the_end("--accept-gap")

        def is_kept(record: Acknowledged) -> bool:
            return not read[record.partition] <= record.offset < lost[record.partition]

        self.differ(*self.pipeline.differences(kept=[a for a in self.pipeline.acknowledged if is_kept(a)]))
