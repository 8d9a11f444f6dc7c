"""Scenarios: each is one or more seeded acts, each on a pipeline of its own, and ends with every check."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg2

import stack
from stack import privileges
from stack.command import CommandError
from torture.check import differences
from torture.kill_points import ANY_MOMENT, CHECKPOINT_WRITE, POINTS
from torture.oracle import expected
from torture.pipeline import take_any_timestamp
from torture.story import PATH, READING, Outcome, Scale, SkippedError, Story
from torture.traffic import Message, Traffic, every_class, message
from torture.world import World

_PAUSE = 4  # seconds between two cruelties
_SENT_AT_ONCE = 20_000  # what waits for the broker's word is held in memory


def killed_path(story: Story) -> None:
    """kill -9 at every named point of the transaction path, in turn, with messy traffic arriving between."""

    def live(point: str) -> None:
        story.pipeline.send(story.traffic.messy(60))
        # How often a point is passed before it strikes; a life without so many passings ends by itself.
        story.pipeline.until_killed(point, PATH, "--kill", point, str(story.rng.choice((1, 1, 2))))

    story.kill_at([*POINTS, ANY_MOMENT], story.scale.path_kills, live)
    with story.path() as last:
        story.expect(last)
    story.check()


def killed_job(story: Story) -> None:
    """kill -9 of the whole job, driver and JVM, at every named point and in checkpoint writes, while records arrive."""

    def live(point: str) -> None:
        times = {CHECKPOINT_WRITE: story.rng.randint(1, 8), ANY_MOMENT: 12}.get(point, story.rng.randint(1, 2))
        with story.pipeline.flowing(story.traffic.messy(300), 300):
            story.pipeline.until_killed(point, "torture.job", point, str(times))

    story.kill_at(story.scale.job_moments, story.scale.job_kills, live)
    story.finish()


def servers_down(story: Story) -> None:
    """With one job running and records flowing: the broker stopped and killed, PostgreSQL stopped at once and killed,
    sessions ended, both unavailable for a while, tables locked."""
    world, pipeline, scale = story.world, story.pipeline, story.scale
    seconds = 2 * scale.unavailable_seconds + scale.locked_seconds + 80
    with story.running_job(), pipeline.flowing(story.traffic.messy(seconds * 50), 50):
        for cruelty in (
            partial(stack.stop_broker, world.home),
            partial(stack.kill_broker, world.home),
            world.stop_database_immediately,
            partial(stack.kill_database, world.home),
        ):
            time.sleep(_PAUSE)
            cruelty()
            world.up()
        for _ in range(3):
            time.sleep(_PAUSE)
            world.terminate_backends(pipeline)
        stack.kill_broker(world.home)
        world.stop_database_immediately()
        time.sleep(scale.unavailable_seconds)
        world.up()
        time.sleep(_PAUSE)
        with closing(psycopg2.connect(pipeline.dsn())) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLE mart.invoice, mart.customer IN ACCESS EXCLUSIVE MODE")
            time.sleep(scale.locked_seconds)
    story.check()


def read_only(story: Story) -> None:
    """With one job running and records flowing, the mart takes no writes, as after a failover or where a service has
    run out of disk, and takes them again; three times, the last one for longer. The job waits, says so, and goes on."""
    world, pipeline, unavailable = story.world, story.pipeline, story.scale.unavailable_seconds
    with story.running_job() as job, pipeline.flowing(story.traffic.messy((6 * _PAUSE + unavailable) * 50), 50):
        for seconds in (_PAUSE, _PAUSE, unavailable):
            time.sleep(_PAUSE)
            world.set_read_only(pipeline, True)
            time.sleep(seconds)
            world.set_read_only(pipeline, False)
    story.expect(job, words="PostgreSQL is read-only")
    story.check()


def disk_full(story: Story) -> None:
    """The file system of the checkpoints, then that of the mart's tables, is full; then there is room again."""
    pipeline, folder = story.pipeline, story.world.home / "full"
    with _small_file_system(folder / "tables", "512m") as tables, _small_file_system(folder / "spark", "128k") as spark:
        tablespace = tables / "tablespace"
        tablespace.mkdir()
        user = privileges.owner_for(tablespace)
        if user is not None:
            shutil.chown(tablespace, *user)
        with story.world.tablespace(pipeline, tablespace):
            pipeline.send(story.traffic.messy(200))
            pipeline.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            pipeline.checkpoint.symlink_to(spark)
            (spark / "ballast").write_bytes(b"x" * 100_000)
            with story.job("--max-invoices-per-batch", "5", "--available-now") as job:
                if job.wait() == 0:
                    story.differ("the job noticed nothing of a full checkpoint folder")
            (spark / "ballast").unlink()
            _resize(spark, "64m")
            story.finish()
            _resize(tables, str(shutil.disk_usage(tables).used + 4 * 1024**2))
            with story.running_job() as job, pipeline.flowing(story.traffic.messy(60_000), 20_000):
                job.wait_for("No space left on device")
                time.sleep(3)
                _resize(tables, "512m")
            story.check()


def checkpoint_lost(story: Story) -> None:
    """Between lives that are killed, Spark's checkpoint is deleted, put back from an older copy, or corrupted."""
    pipeline = story.pipeline
    older = pipeline.home / "older-checkpoint"
    keep, put_back = partial(shutil.copytree, dst=older), partial(_put_back, older)
    for mischief in (keep, shutil.rmtree, put_back, _truncate, _empty):
        pipeline.send(story.traffic.messy(200))
        with story.job("--max-invoices-per-batch", "20") as job:
            job.wait_for('"event": "applied"')
            time.sleep(story.rng.uniform(0, 2))
            job.kill()
        pipeline.kills[ANY_MOMENT] += 1
        mischief(pipeline.checkpoint)
    story.finish()


def topic_recreated(story: Story) -> None:
    """The topic is created anew: a clear error, not a silent skip; after a rewind it goes on."""
    pipeline = story.pipeline
    pipeline.send(story.traffic.invoices(200))
    story.finish()
    before = pipeline.recreate_topic()
    pipeline.send([record.message for record in before[:100]] + story.traffic.invoices(100))
    with story.job("--available-now") as job:
        story.expect(job, 1, "was re-created")
    story.rewind()
    story.job_to_the_end()
    [invoices] = pipeline.query("invoice_count")
    should = len({record.message.value for record in before + pipeline.acknowledged})
    if invoices != should:
        story.differ(f"after the rewind the mart holds {invoices} invoices, not {should}")
    story.outcome.records += len(before)


def records_deleted(story: Story) -> None:
    """Retention deletes records that were not read: a loud error that says how many; --accept-gap goes on."""
    story.pipeline.send(story.traffic.messy(200))
    story.finish()
    gap = story.lose_records()
    with story.job("--available-now") as job:
        story.expect(job, 1, "25 records) were deleted by the broker")
    story.accept_gap(*gap)


def topic_recreated_meanwhile(story: Story, again: int) -> None:
    """The topic is created anew while the job runs, with `again` records: the job stops before it takes any of them."""
    pipeline = story.pipeline
    pipeline.send(story.traffic.messy(200))
    with story.job() as job:
        pipeline.wait_until_caught_up(job)
        job.signal(signal.SIGSTOP)  # else it may look while there is no topic at all, and end for that
        ends = pipeline.end_offsets()
        before = pipeline.recreate_topic()
        pipeline.send(story.traffic.messy(again))
        job.signal(signal.SIGCONT)
        story.expect(job, 1, "was re-created")
    found = differences(pipeline.dsn(), pipeline.lake, expected(before), ends)
    story.differ(*(f"after {again} records of another topic: {difference}" for difference in found))
    story.outcome.records += len(before)


def records_deleted_meanwhile(story: Story) -> None:
    """Records that the running job has not read are deleted: it says how many; --accept-gap goes on without them."""
    story.pipeline.send(story.traffic.messy(200))
    with story.job() as job:
        story.pipeline.wait_until_caught_up(job)
        job.signal(signal.SIGSTOP)
        gap = story.lose_records()
        job.signal(signal.SIGCONT)
        story.expect(job, 1, "25 records) were deleted by the broker")
    story.accept_gap(*gap)


def two_writers(story: Story) -> None:
    """A second job takes over and the first ends with code 3; and a job that was held by SIGSTOP wakes up after its
    successor committed. Both with the whole job; then the zombie many times on the transaction path."""
    pipeline, traffic = story.pipeline, story.traffic
    with story.job() as first:
        first.wait_for(READING)
        pipeline.send(traffic.messy(100))
        pipeline.wait_until_caught_up(first)
        with story.job() as second:
            second.wait_for(READING)
            pipeline.send(traffic.messy(100))
            story.expect_fenced(first)
            pipeline.wait_until_caught_up(second)
            second.signal(signal.SIGSTOP)
            with story.job() as third:
                pipeline.send(traffic.messy(100))
                pipeline.wait_until_caught_up(third)
                second.signal(signal.SIGCONT)
                pipeline.send(traffic.messy(100))
                story.expect_fenced(second)
                pipeline.wait_until_caught_up(third)
                third.stop()
    for _ in range(max(1, story.scale.path_kills // 30)):
        pipeline.send(traffic.messy(150))
        story.wake_a_zombie()
    story.finish()


def replayed(story: Story) -> None:
    """A fifth sent twice, all in any order, invoices of a year ago last; then the whole topic three times more."""
    story.pipeline.send(story.traffic.messy(3000))
    story.pipeline.send([_a_year_earlier(story.traffic) for _ in range(200)])
    for times in range(1, 5):
        if times > 1:
            story.rewind()
        story.job_to_the_end("--max-invoices-per-batch", str(997 + 101 * times))
        story.check(times_read=times)


def wrong_records(story: Story) -> None:
    """Every class of wrong record, many times, among good ones: each in quarantine for its reason, none stops the
    stream."""
    messages = [*every_class(story.traffic, story.scale.wrong_each), *story.traffic.messy(2000)]
    story.rng.shuffle(messages)
    story.pipeline.send(messages)
    story.finish()


def mutated(story: Story) -> None:
    """Valid invoices changed by field and by byte, through one running job: each is applied, a duplicate, or in
    quarantine for a reason that the pipeline knows."""
    patience = 300 + story.scale.mutated / 200
    take_any_timestamp(story.pipeline.bootstrap, story.pipeline.name)
    with story.running_job(patience):
        for first in range(0, story.scale.mutated, _SENT_AT_ONCE):
            story.pipeline.send(list(story.traffic.mutated(min(_SENT_AT_ONCE, story.scale.mutated - first))))
    story.check(seconds=patience)


def sizes(story: Story) -> None:
    """A batch of one invoice, one as large as can be, an invoice of 5,000 lines, a customer of very many invoices."""
    traffic, scale = Traffic(story.seed, customers=20_000), story.scale
    story.pipeline.send(traffic.invoices(1))
    story.finish()
    story.pipeline.send([message(traffic.event(lines=5_000))])
    story.pipeline.send([message(traffic.event(customer="regular")) for _ in range(scale.customer_invoices)])
    story.pipeline.send(traffic.invoices(scale.largest))
    all_at_once = str(2 * scale.largest + scale.customer_invoices)
    story.job_to_the_end("--max-invoices-per-batch", all_at_once, seconds=600)
    story.check()


def transactions(story: Story) -> None:
    """A producer that commits and takes back, beside a plain one: kills on the transaction path, then the whole job
    while it goes on. What was taken back is nowhere, and the marks between the records lose nothing."""
    pipeline, rng = story.pipeline, story.rng
    with pipeline.transacting() as sender:

        def some() -> None:
            if rng.random() < 0.6:
                sender.transact(story.traffic.messy(20), commit=True)
            else:
                taken_back = Traffic(rng.randrange(10**6), first_number=900_000)
                sender.transact(taken_back.messy(20), commit=False)

        def live(point: str) -> None:
            some()
            pipeline.send(story.traffic.messy(15))
            some()
            pipeline.until_killed(point, PATH, "--kill", point, "1")

        story.kill_at(list(POINTS), max(len(POINTS), story.scale.path_kills // 10), live)
        with story.running_job():
            for _ in range(20):
                some()
            # A mark is the last thing there.
            sender.transact(Traffic(story.seed, first_number=950_000).messy(5), commit=False)
    story.finish()


def new_partitions(story: Story) -> None:
    """Partitions are added while the job runs: it reads them from their first record."""
    pipeline = story.pipeline
    pipeline.send(story.traffic.messy(200))
    with story.running_job() as job:
        pipeline.wait_until_caught_up(job)
        for more in (3, 5):
            pipeline.add_partitions(more)
            # Invoices of their own: a copy of an earlier one may come to another partition now, and be read first.
            pipeline.send(Traffic(story.seed + more, first_number=500_000 + more * 10_000).messy(300))
            pipeline.wait_until_caught_up(job)
    story.finish()


def big_records(story: Story) -> None:
    """A backlog of records of a megabyte each, valid ones with thousands of lines, then garbage: applied and landed,
    the garbage quarantined, in the heap that is the default."""
    pipeline, count = story.pipeline, story.scale.big_records
    for _ in range(0, count, 100):
        pipeline.send([story.traffic.large(1_000_000) for _ in range(100)])
        # The oracle knows the invoice; the bytes are only held by the broker.
        pipeline.acknowledged = [replace(a, message=replace(a.message, value=None)) for a in pipeline.acknowledged]
    pipeline.send([Message(str(n).encode(), b"{" * 1_000_000, None, "not_json") for n in range(count)])
    story.job_to_the_end(seconds=1200)
    story.check()


Act = Callable[[Story], None]
SCENARIOS: dict[str, Sequence[Act]] = {
    "killed path": [killed_path],
    "killed job": [killed_job],
    "servers down": [servers_down],
    "read only": [read_only],
    "disk full": [disk_full],
    "checkpoint lost": [checkpoint_lost],
    "topic changed": [topic_recreated, records_deleted],
    "two writers": [two_writers],
    "replayed": [replayed],
    "wrong records": [wrong_records],
    "mutated": [mutated],
    "sizes": [sizes],
    "transactions": [transactions],
    "new partitions": [new_partitions],
    "topic changed meanwhile": [
        partial(topic_recreated_meanwhile, again=50),
        partial(topic_recreated_meanwhile, again=600),
        records_deleted_meanwhile,
    ],
    "big records": [big_records],
}


def play(world: World, scenario: str, seed: int, scale: Scale) -> Outcome:
    """What came of it. Raises SkippedError, and CommandError if it could not be played to its end."""
    outcome = Outcome()
    for act in SCENARIOS[scenario]:
        with world.pipeline() as pipeline:
            act(Story(world, pipeline, seed, scale, outcome))
            outcome.records += len(pipeline.acknowledged)
            outcome.kills += pipeline.kills
    return outcome


def _a_year_earlier(traffic: Traffic) -> Message:
    event = traffic.event()
    return message({**event, "invoice_date": event["invoice_date"].replace("2025", "2024", 1)})


def _put_back(older: Path, checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    shutil.copytree(older, checkpoint)


def _truncate(checkpoint: Path) -> None:
    for path in _files(checkpoint):
        path.write_bytes(path.read_bytes()[: max(1, path.stat().st_size // 2)])


def _empty(checkpoint: Path) -> None:
    for path in _files(checkpoint):
        path.write_bytes(b"")


def _files(folder: Path) -> Sequence[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    if not found:
        raise CommandError(f"no checkpoint to spoil in {folder}")
    return found


@contextmanager
def _small_file_system(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        raise SkippedError(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)  # noqa: S607
