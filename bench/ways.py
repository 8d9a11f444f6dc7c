"""The contenders from Kafka to a mart, each as its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.results import OURS, Row
from bench.servers import Database, Servers
from stack.command import Command, CommandError

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20
_TOLD_CHARACTERS = 1500


@dataclass(frozen=True)
class Way:
    """A contender: `module` and its options; `package` is what it needs (None: nothing beyond the project).

    `visible` and `customers` name the statements that count the purchases in its mart and read its customers. `crash`
    says what a kill at any moment may do to its figures.
    """

    name: str
    module: str
    crash: str
    options: tuple[str, ...] = ()
    package: str | None = None
    streams: bool = True
    visible: str = "bench/visible_peer"
    customers: str = "bench/customers_peer"

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def needs_spark(self) -> bool:
        return self.is_ours or "spark" in self.module

    def started(self, python: Path, servers: Servers, place: Database, topic: str) -> Command:
        """The way at work on a topic and a database, stopped at the block's end with all that it started."""
        folder = servers.home / "ways" / place.name
        arguments = self.options if self.is_ours else (servers.kafka, topic, place.owner_dsn, str(folder))
        environment = servers.environment(place, topic)
        environment |= {"PYTHONPATH": str(ROOT), "PATHWAY_THREADS": str(os.cpu_count())}
        return Command(
            self.module,
            *arguments,
            log=folder / "log",
            environment=environment,
            python=python,
            grace=_STOP_SECONDS,
        )

    def check(self, running: Command) -> None:
        """Raise CommandError if it failed, or if it ended although it streams."""
        if self.streams or running.process.poll():
            running.check()


def _ours(name: str, *options: str) -> Way:
    crash = "nothing: next offsets in the transaction"
    return Way(name, "cli", crash, options, visible="bench/visible_mart", customers="demo/customers")


WAYS = (
    _ours(OURS, "run", "--only", "apply"),
    _ours(f"{OURS}, landing in the lake beside it", "run"),
    Way("Spark, row by row", "bench.peers.spark_rows", "nothing: invoice numbers"),
    Way(
        "Spark, JDBC overwrite",
        "bench.peers.spark_overwrite",
        "half a table until the next run",
        streams=False,
        visible="bench/visible_overwritten",
        customers="bench/customers_overwritten",
    ),
    Way("plain Python, psycopg2", "bench.peers.plain", "nothing: invoice numbers"),
    Way("Quix Streams", "bench.peers.quix", "nothing: Kafka transactions", package="quixstreams"),
    Way("Pathway", "bench.peers.pathway_", "rereads the topic", package="pathway"),
    Way("Bytewax", "bench.peers.bytewax_", "rereads the topic", package="bytewax"),
)


def rows_of(way: Way, peers_python: Path | None, case: str, measure: Callable[[Path], Iterable[Row]]) -> Iterator[Row]:
    """What is measured of a way by the Python that has what it needs; else a row that says why there is nothing."""
    python = Path(sys.executable) if way.package is None else peers_python
    if python is None or (way.package and not version_of(way.package, python)):
        yield Row(case, way.name, note=f"not installed: {way.package}")
        return
    try:
        yield from measure(python)
    except CommandError as error:
        yield Row(case, way.name, wrong=str(error)[-_TOLD_CHARACTERS:])


def version_of(package: str, python: Path) -> str:
    """The version that is installed for that Python, empty if none is."""
    program = f"import importlib.metadata as m; print(m.version('{package}'))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True).stdout.strip()
