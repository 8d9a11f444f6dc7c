"""Scenarios: each is one seeded story on a line of its own, and ends with every check."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg2

from stack import privileges
from torture.check import differences
from torture.kill_points import ANY_MOMENT, CHECKPOINT_WRITE, POINTS
from torture.oracle import expected
from torture.traffic import Message, Traffic, every_class, message
from torture.world import Life, Line, TortureError, World, flowing, wait_until

_DRIVER = ("torture.driver", "--batch", "60")
_SENT_AT_ONCE = 20_000  # what waits for the broker's word is held in memory
_RUN = ("run", "--warm-up-rounds", "0")


class SkippedError(Exception):
    """The scenario cannot be played on this machine; the message says why."""


@dataclass(frozen=True)
class Scale:
    """How much of each story is played: kills of the transaction path, kills of the whole job, wrong records a class,
    seconds that something stays unavailable or locked, the size of the largest batch and customer, mutated records,
    and how many records of a megabyte wait."""

    path_kills: int = 300
    job_kills: int = 40
    wrong_each: int = 100
    unavailable_seconds: int = 30
    locked_seconds: int = 60
    largest: int = 100_000
    customer_invoices: int = 50_000
    mutated: int = 100_000
    big_records: int = 1_300


@dataclass
class Outcome:
    """What a scenario did: how often the process lived, the records sent, the kills by their point, and what was not
    as the oracle says."""

    lives: int = 0
    records: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


Scenario = Callable[[World, int, Scale], Outcome]


def killed_path(world: World, seed: int, scale: Scale) -> Outcome:
    """kill -9 at every named point of the transaction path, in turn, with messy traffic arriving between."""
    with world.line() as line:
        traffic, rng = Traffic(seed), random.Random(seed)
        points = [*POINTS, ANY_MOMENT]
        outcome = Outcome()
        while line.kills.total() < scale.path_kills:
            line.send(traffic.messy(60))
            point = points[outcome.lives % len(points)]
            # How often a point is passed before it strikes; a life without so many passings ends by itself.
            line.until_killed(point, *_DRIVER, "--kill", point, str(rng.choice((1, 1, 2))))
            outcome.lives += 1
            if outcome.lives > 4 * scale.path_kills:
                raise TortureError("the kill points are not reached")
        _finish_path(line, outcome)
        return _with_line(outcome, line)


def killed_job(world: World, seed: int, scale: Scale) -> Outcome:
    """kill -9 of the whole job, driver and JVM, at every named point and in checkpoint writes, while records arrive."""
    with world.line() as line:
        traffic, rng = Traffic(seed), random.Random(seed)
        points = [*POINTS, CHECKPOINT_WRITE, ANY_MOMENT]
        outcome = Outcome()
        while line.kills.total() < scale.job_kills:
            with flowing(line, traffic.messy(300), 300):
                point = points[outcome.lives % len(points)]
                times = {CHECKPOINT_WRITE: rng.randint(1, 8), ANY_MOMENT: 12}.get(point, rng.randint(1, 2))
                run = (*_RUN, "--max-invoices-per-batch", "40", "--available-now")
                line.until_killed(point, "torture.job", point, str(times), *run)
            outcome.lives += 1
            if outcome.lives > 3 * scale.job_kills:
                raise TortureError("the kill points are not reached")
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def servers_down(world: World, seed: int, scale: Scale) -> Outcome:
    """With one job running and records flowing: the broker stopped and killed, PostgreSQL stopped at once and killed,
    sessions ended, both unavailable for a while, tables locked."""
    with world.line() as line:
        traffic = Traffic(seed)
        outcome = Outcome(lives=1)
        pause = 4
        with line.life("cli", *_RUN) as job:
            job.wait_for('"event": "reading"')
            with flowing(line, traffic.messy((2 * scale.unavailable_seconds + scale.locked_seconds + 80) * 50), 50):
                for cruelty in (
                    world.stop_broker,
                    world.kill_broker,
                    world.stop_database_immediately,
                    world.kill_database,
                ):
                    time.sleep(pause)
                    cruelty()
                    world.up()
                for _ in range(3):
                    time.sleep(pause)
                    world.terminate_backends(line)
                world.kill_broker()
                world.stop_database_immediately()
                time.sleep(scale.unavailable_seconds)
                world.up()
                time.sleep(pause)
                with closing(psycopg2.connect(line.dsn("owner"))) as connection, connection.cursor() as cursor:
                    cursor.execute("LOCK TABLE mart.invoice, mart.customer IN ACCESS EXCLUSIVE MODE")
                    time.sleep(scale.locked_seconds)
                    connection.rollback()
            _until_caught_up(line, job)
            if (code := job.stop()) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        outcome.differences += line.differences() + line.verified()
        return _with_line(outcome, line)


def read_only(world: World, seed: int, scale: Scale) -> Outcome:
    """With one job running and records flowing, the mart takes no writes, as after a failover or where a service has
    run out of disk, and takes them again; three times, the last one for longer. The job waits, says so, and goes on."""
    with world.line() as line:
        traffic = Traffic(seed)
        outcome = Outcome(lives=1)
        pause = 4
        with line.life("cli", *_RUN) as job:
            job.wait_for('"event": "reading"')
            with flowing(line, traffic.messy((6 * pause + scale.unavailable_seconds) * 50), 50):
                for seconds in (pause, pause, scale.unavailable_seconds):
                    time.sleep(pause)
                    world.set_read_only(line, True)
                    world.terminate_backends(line)
                    time.sleep(seconds)
                    world.set_read_only(line, False)
                    world.terminate_backends(line)
            _until_caught_up(line, job)
            if (code := job.stop()) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
            if "PostgreSQL is read-only" not in job.text():
                outcome.differences.append("the job did not say that PostgreSQL is read-only")
        outcome.differences += line.differences() + line.verified()
        return _with_line(outcome, line)


def disk_full(world: World, seed: int, scale: Scale) -> Outcome:
    """The file system of the checkpoints, then that of the mart's tables, is full; then there is room again."""
    traffic = Traffic(seed)
    outcome = Outcome()
    folder = world.home / "full"
    with _small_file_system(folder / "tables", "512m") as tables, _small_file_system(folder / "spark", "128k") as spark:
        tablespace = tables / "tablespace"
        tablespace.mkdir()
        user = privileges.owner_for(tablespace)
        if user is not None:
            shutil.chown(tablespace, *user)
        with world.line(tablespace) as line:
            line.send(traffic.messy(200))
            line.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            line.checkpoint.symlink_to(spark)
            (spark / "ballast").write_bytes(b"x" * 100_000)
            with line.life("cli", *_RUN, "--max-invoices-per-batch", "5", "--available-now") as job:
                code = job.wait()
                if code == 0:
                    outcome.differences.append("the job noticed nothing of a full checkpoint folder")
            (spark / "ballast").unlink()
            _resize(spark, "64m")
            outcome.lives += 1
            _finish_job(line, outcome)
            _resize(tables, str(shutil.disk_usage(tables).used + 4 * 1024**2))
            with line.life("cli", *_RUN) as job:
                outcome.lives += 1
                with flowing(line, traffic.messy(60_000), 20_000):
                    job.wait_for("No space left on device")
                    time.sleep(3)
                    _resize(tables, "512m")
                _until_caught_up(line, job)
                if (code := job.stop()) != 0:
                    outcome.differences.append(f"the job ended with {code}: {job.tail()}")
            outcome.differences += line.differences() + line.verified()
            return _with_line(outcome, line)


def checkpoint_lost(world: World, seed: int, scale: Scale) -> Outcome:
    """Between lives that are killed, Spark's checkpoint is deleted, put back from an older copy, or corrupted."""
    with world.line() as line:
        traffic, rng = Traffic(seed), random.Random(seed)
        outcome = Outcome()
        older = line.home / "older-checkpoint"
        for mischief in (_keep_a_copy(older), shutil.rmtree, _put_back(older), _truncate, _empty):
            line.send(traffic.messy(200))
            with line.life("cli", *_RUN, "--max-invoices-per-batch", "20") as job:
                outcome.lives += 1
                job.wait_for('"event": "applied"')
                time.sleep(rng.uniform(0, 2))
                job.kill()
                line.kills[ANY_MOMENT] += 1
            mischief(line.checkpoint)
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def topic_changed(world: World, seed: int, scale: Scale) -> Outcome:
    """The topic is created anew: a clear error, not a silent skip; after a rewind it goes on. Then retention deletes
    records that were not read: a loud error that says how many, and --accept-gap goes on without them."""
    with world.line() as line:
        traffic = Traffic(seed)
        outcome = Outcome()
        line.send(traffic.invoices(200))
        _finish_job(line, outcome)
        world.recreate_topic(line)
        before, line.acknowledged = line.acknowledged, []
        line.send([record.message for record in before[:100]])
        line.send(traffic.invoices(100))
        _expect_error(line, outcome, "was re-created", *_RUN, "--available-now")
        with line.life("cli", "rewind") as rewind:
            if rewind.wait() != 0:
                raise TortureError(f"rewind: {rewind.tail()}")
        with line.life("cli", *_RUN, "--available-now") as job:
            outcome.lives += 1
            job.wait()
        known = {record.message.value for record in line.acknowledged}
        invoices = int(line.query("invoice_count")[0])
        should = len({r.message.value for r in before} | known)
        if invoices != should:
            outcome.differences.append(f"after the rewind the mart holds {invoices} invoices, not {should}")
        outcome.records += len(before) + len(line.acknowledged)
    with world.line() as line:
        traffic = Traffic(seed + 1)
        line.send(traffic.messy(200))
        _finish_job(line, outcome)
        read = line.end_offsets()
        line.send(traffic.messy(200))
        lost = {partition: offset + 25 for partition, offset in read.items()}
        world.delete_records(line, lost)
        _expect_error(line, outcome, "25 records) were deleted by the broker", *_RUN, "--available-now")
        _accept_gap(line, outcome, read, lost)
        return _with_line(outcome, line)


def two_writers(world: World, seed: int, scale: Scale) -> Outcome:
    """A second job takes over and the first ends with code 3; and a job that was held by SIGSTOP wakes up after its
    successor committed. Both with the whole job; then the zombie many times on the transaction path."""
    with world.line() as line:
        traffic = Traffic(seed)
        outcome = Outcome(lives=4)
        with line.life("cli", *_RUN) as first:
            first.wait_for('"event": "reading"')
            line.send(traffic.messy(100))
            _until_caught_up(line, first)
            with line.life("cli", *_RUN) as second:
                second.wait_for('"event": "reading"')
                line.send(traffic.messy(100))
                _expect_fenced(first, outcome)
                _until_caught_up(line, second)
                second.signal(signal.SIGSTOP)
                with line.life("cli", *_RUN) as third:
                    line.send(traffic.messy(100))
                    _until_caught_up(line, third)
                    second.signal(signal.SIGCONT)
                    line.send(traffic.messy(100))
                    _expect_fenced(second, outcome)
                    _until_caught_up(line, third)
                    third.stop()
        for _ in range(max(1, scale.path_kills // 30)):
            _zombie(line, traffic, outcome)
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def replayed(world: World, seed: int, scale: Scale) -> Outcome:
    """A fifth sent twice, all in any order, invoices of a year ago last; then the whole topic three times more."""
    with world.line() as line:
        traffic, outcome = Traffic(seed), Outcome()
        line.send(traffic.messy(3000))
        line.send([_a_year_earlier(traffic) for _ in range(200)])
        for times in range(1, 5):
            run = (*_RUN, "--available-now", "--max-invoices-per-batch", str(997 + 101 * times))
            with line.life("cli", *run) as job:
                outcome.lives += 1
                if (code := job.wait()) != 0:
                    outcome.differences.append(f"the job ended with {code}: {job.tail()}")
            outcome.differences += line.differences(times_read=times)
            if times < 4:
                with line.life("cli", "rewind") as rewind:
                    rewind.wait()
        outcome.differences += line.verified()
        return _with_line(outcome, line)


def wrong_records(world: World, seed: int, scale: Scale) -> Outcome:
    """Every class of wrong record, many times, among good ones: each in quarantine for its reason, none stops the
    stream."""
    with world.line() as line:
        traffic, outcome = Traffic(seed), Outcome()
        messages = [*every_class(traffic, scale.wrong_each), *traffic.messy(2000)]
        traffic.rng.shuffle(messages)
        line.send(messages)
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def mutated(world: World, seed: int, scale: Scale) -> Outcome:
    """Valid invoices changed by field and by byte, through one running job: each is applied, a duplicate, or in
    quarantine for a reason that the line knows."""
    with world.line() as line:
        traffic, outcome = Traffic(seed), Outcome(lives=1)
        patience = 300 + scale.mutated / 200
        line.take_any_timestamp()
        with line.life("cli", *_RUN) as job:
            job.wait_for('"event": "reading"')
            for first in range(0, scale.mutated, _SENT_AT_ONCE):
                line.send(list(traffic.mutated(min(_SENT_AT_ONCE, scale.mutated - first))))
            _until_caught_up(line, job, patience)
            if (code := job.stop()) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        outcome.differences += line.differences() + line.verified(patience)
        return _with_line(outcome, line)


def sizes(world: World, seed: int, scale: Scale) -> Outcome:
    """A batch of one invoice, one as large as can be, an invoice of 5,000 lines, a customer of very many invoices."""
    with world.line() as line:
        traffic, outcome = Traffic(seed, customers=20_000), Outcome()
        line.send(traffic.invoices(1))
        _finish_job(line, outcome)
        line.send([message(traffic.event(lines=5_000))])
        line.send([message(traffic.event(customer="regular")) for _ in range(scale.customer_invoices)])
        line.send(traffic.invoices(scale.largest))
        run = (*_RUN, "--available-now", "--max-invoices-per-batch", str(2 * scale.largest + scale.customer_invoices))
        with line.life("cli", *run) as job:
            outcome.lives += 1
            if (code := job.wait(600)) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        outcome.differences += line.differences() + line.verified()
        return _with_line(outcome, line)


def transactions(world: World, seed: int, scale: Scale) -> Outcome:
    """A producer that commits and takes back, beside a plain one: kills on the transaction path, then the whole job
    while it goes on. What was taken back is nowhere, and the marks between the records lose nothing."""
    with world.line() as line, line.transacting() as transact:
        traffic, rng = Traffic(seed), random.Random(seed)
        outcome = Outcome()

        def some() -> None:
            if rng.random() < 0.6:
                transact(traffic.messy(20), commit=True)
            else:
                transact(Traffic(rng.randrange(10**6), first_number=900_000).messy(20), commit=False)

        while line.kills.total() < max(len(POINTS), scale.path_kills // 10):
            some()
            line.send(traffic.messy(15))
            some()
            point = list(POINTS)[outcome.lives % len(POINTS)]
            line.until_killed(point, *_DRIVER, "--kill", point, "1")
            outcome.lives += 1
            if outcome.lives > scale.path_kills + 4 * len(POINTS):
                raise TortureError("the kill points are not reached")
        with line.life("cli", *_RUN) as job:
            outcome.lives += 1
            job.wait_for('"event": "reading"')
            for _ in range(20):
                some()
            transact(Traffic(seed, first_number=950_000).messy(5), commit=False)  # a mark is the last thing there
            _until_caught_up(line, job)
            if (code := job.stop()) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def new_partitions(world: World, seed: int, scale: Scale) -> Outcome:
    """Partitions are added while the job runs: it reads them from their first record."""
    with world.line() as line:
        outcome = Outcome()
        line.send(Traffic(seed).messy(200))
        with line.life("cli", *_RUN) as job:
            outcome.lives += 1
            _until_caught_up(line, job)
            for more in (3, 5):
                world.add_partitions(line, more)
                # Invoices of their own: a copy of an earlier one may come to another partition now, and be read first.
                line.send(Traffic(seed + more, first_number=500_000 + more * 10_000).messy(300))
                _until_caught_up(line, job)
            if (code := job.stop()) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        _finish_job(line, outcome)
        return _with_line(outcome, line)


def topic_changed_meanwhile(world: World, seed: int, scale: Scale) -> Outcome:
    """The topic is created anew while the job runs, shorter and longer than it was: the job stops before it takes
    anything of it. And records that the running job has not read are deleted: it says how many."""
    outcome = Outcome()
    for again in (50, 600):
        with world.line() as line:
            traffic = Traffic(seed)
            line.send(traffic.messy(200))
            with line.life("cli", *_RUN) as job:
                outcome.lives += 1
                _until_caught_up(line, job)
                job.signal(signal.SIGSTOP)  # else it may look while there is no topic at all, and end for that
                ends, records = line.end_offsets(), len(line.acknowledged)
                world.recreate_topic(line)
                taken, line.acknowledged = line.acknowledged, []
                line.send(traffic.messy(again))
                job.signal(signal.SIGCONT)
                _expect_end(job, outcome, "was re-created")
            after = differences(line.dsn("owner"), line.lake, expected(taken), ends)
            outcome.differences += [f"after {again} records of another topic: {line_}" for line_ in after]
            outcome.records += records + len(line.acknowledged)
    with world.line() as line:
        traffic = Traffic(seed)
        line.send(traffic.messy(200))
        with line.life("cli", *_RUN) as job:
            outcome.lives += 1
            _until_caught_up(line, job)
            job.signal(signal.SIGSTOP)
            read = line.end_offsets()
            line.send(traffic.messy(200))
            lost = {partition: offset + 25 for partition, offset in read.items()}
            world.delete_records(line, lost)
            job.signal(signal.SIGCONT)
            _expect_end(job, outcome, "25 records) were deleted by the broker")
        _accept_gap(line, outcome, read, lost)
        return _with_line(outcome, line)


def big_records(world: World, seed: int, scale: Scale) -> Outcome:
    """A backlog of records of a megabyte each, valid ones with thousands of lines, then garbage: applied and landed,
    the garbage quarantined, in the heap that is the default."""
    outcome = Outcome()
    with world.line() as line:
        traffic = Traffic(seed)
        garbage = b"{" * 1_000_000
        for _ in range(0, scale.big_records, 100):
            line.send([traffic.large(1_000_000) for _ in range(100)])
            # The oracle knows the invoice; the bytes are only held by the broker.
            line.acknowledged = [replace(a, message=replace(a.message, value=None)) for a in line.acknowledged]
        line.send([Message(str(n).encode(), garbage, None, "not_json") for n in range(scale.big_records)])
        with line.life("cli", *_RUN, "--available-now") as job:
            outcome.lives += 1
            if (code := job.wait(1200)) != 0:
                outcome.differences.append(f"the job ended with {code}: {job.tail()}")
        outcome.differences += line.differences() + line.verified()
        return _with_line(outcome, line)


SCENARIOS: dict[str, Scenario] = {
    "killed path": killed_path,
    "killed job": killed_job,
    "servers down": servers_down,
    "read only": read_only,
    "disk full": disk_full,
    "checkpoint lost": checkpoint_lost,
    "topic changed": topic_changed,
    "two writers": two_writers,
    "replayed": replayed,
    "wrong records": wrong_records,
    "mutated": mutated,
    "sizes": sizes,
    "transactions": transactions,
    "new partitions": new_partitions,
    "topic changed meanwhile": topic_changed_meanwhile,
    "big records": big_records,
}


def _with_line(outcome: Outcome, line: Line) -> Outcome:
    outcome.records += len(line.acknowledged)
    outcome.kills += line.kills
    return outcome


def _finish_path(line: Line, outcome: Outcome) -> None:
    """A last life on the transaction path that reaches the topic's end, and all checks."""
    with line.life(*_DRIVER) as life:
        outcome.lives += 1
        if (code := life.wait()) != 0:
            outcome.differences.append(f"the last life ended with {code}: {life.tail()}")
    outcome.differences += line.differences() + line.verified()


def _finish_job(line: Line, outcome: Outcome) -> None:
    """A life of the whole job that reaches the topic's end, and all checks."""
    with line.life("cli", *_RUN, "--available-now") as job:
        outcome.lives += 1
        if (code := job.wait()) != 0:
            outcome.differences.append(f"the last life ended with {code}: {job.tail()}")
    outcome.differences += line.differences() + line.verified()


def _until_caught_up(line: Line, job: Life, seconds: float = 300) -> None:
    """The mart and the lake have passed every record that was acknowledged."""
    end = len(line.acknowledged) + line.unread
    wait_until(lambda: line.applied() >= end, seconds, "not all records are applied", job)
    wait_until(lambda: line.landed() >= end, seconds, "not all records are landed", job)


def _expect_fenced(job: Life, outcome: Outcome) -> None:
    code = job.wait()
    if code != 3 or "only one job may write" not in job.text():
        outcome.differences.append(f"the older writer was not fenced: exit code {code}: {job.tail()}")


def _expect_end(job: Life, outcome: Outcome, words: str) -> None:
    code = job.wait()
    if code != 1 or words not in job.text():
        outcome.differences.append(f"exit code {code} without {words!r}: {job.tail()}")


def _accept_gap(line: Line, outcome: Outcome, read: Mapping[int, int], lost: Mapping[int, int]) -> None:
    """--accept-gap goes on without the records from `read` up to `lost` of each partition, and only without them."""
    with line.life("cli", *_RUN, "--available-now", "--accept-gap") as job:
        outcome.lives += 1
        if (code := job.wait()) != 0:
            outcome.differences.append(f"--accept-gap ended with {code}: {job.tail()}")
    kept = [a for a in line.acknowledged if not read[a.partition] <= a.offset < lost[a.partition]]
    outcome.differences += line.differences(kept=kept)


def _expect_error(line: Line, outcome: Outcome, words: str, *arguments: str) -> None:
    with line.life("cli", *arguments) as job:
        outcome.lives += 1
        _expect_end(job, outcome, words)


def _zombie(line: Line, traffic: Traffic, outcome: Outcome) -> None:
    line.send(traffic.messy(150))
    with line.life(*_DRIVER, "--stop", "after poll", "2") as zombie:
        wait_until(zombie.stopped, 60, "the zombie does not stop", zombie)
        with line.life(*_DRIVER) as successor:
            if (code := successor.wait()) != 0:
                outcome.differences.append(f"the successor ended with {code}: {successor.tail()}")
        zombie.signal(signal.SIGCONT)
        _expect_fenced(zombie, outcome)
    outcome.lives += 2


def _a_year_earlier(traffic: Traffic) -> Message:
    event = traffic.event()
    return message({**event, "invoice_date": event["invoice_date"].replace("2025", "2024", 1)})


Mischief = Callable[[Path], None]


def _keep_a_copy(to: Path) -> Mischief:
    def keep(checkpoint: Path) -> None:
        shutil.copytree(checkpoint, to)

    return keep


def _put_back(older: Path) -> Mischief:
    def put_back(checkpoint: Path) -> None:
        """Under its old name, and under the names that the next lives will use."""
        shutil.rmtree(checkpoint)
        shutil.copytree(older, checkpoint)
        for of_topic in checkpoint.iterdir():
            [epoch] = sorted(of_topic.glob("epoch-*"))[-1:]
            for later in range(1, 12):
                if not (of_topic / f"epoch-{later}").exists():
                    shutil.copytree(epoch, of_topic / f"epoch-{later}")

    return put_back


def _truncate(checkpoint: Path) -> None:
    for path in _files(checkpoint):
        path.write_bytes(path.read_bytes()[: max(1, path.stat().st_size // 2)])


def _empty(checkpoint: Path) -> None:
    for path in _files(checkpoint):
        path.write_bytes(b"")


def _files(folder: Path) -> Sequence[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    if not found:
        raise TortureError(f"no checkpoint to spoil in {folder}")
    return found


@contextmanager
def _small_file_system(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        raise SkippedError(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)  # noqa: S607
