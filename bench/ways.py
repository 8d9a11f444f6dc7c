"""The ways from Kafka to a mart that are compared, each as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.results import OURS
from bench.servers import Database, Servers

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20


@dataclass(frozen=True)
class Way:
    """A way: `module` and its options; `package` is what it needs (None: nothing beside the project).

    `visible` and `customers` name the statements that count the purchases in its mart and read its customers.
    `crash` says what a kill at any moment may do to its figures.
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


def _ours(name: str, *options: str) -> Way:
    return Way(
        name,
        "cli",
        "nothing: positions in the transaction",
        options,
        visible="bench/visible_mart",
        customers="demo/customers",
    )


WAYS = (
    _ours(OURS, "run", "--only", "apply"),
    _ours(f"{OURS}, landing in the lake beside it", "run"),
    Way("Spark, row by row", "bench.peers.spark_rows", "nothing: invoice numbers"),
    Way(
        "Spark, JDBC overwrite",
        "bench.peers.spark_overwrite",
        "half a table until it ran again",
        streams=False,
        visible="bench/visible_overwritten",
        customers="bench/customers_overwritten",
    ),
    Way("plain Python, psycopg2", "bench.peers.plain", "nothing: invoice numbers"),
    Way("Quix Streams", "bench.peers.quix", "nothing: Kafka transactions", package="quixstreams"),
    Way("Pathway", "bench.peers.pathway_", "reads the topic anew", package="pathway"),
    Way("Bytewax", "bench.peers.bytewax_", "reads the topic anew", package="bytewax"),
)


class EndedError(Exception):
    """A way's process ended by itself; the message holds the end of its log."""


class Running:
    """A started way."""

    def __init__(self, way: Way, process: subprocess.Popen[bytes], log: Path) -> None:
        self._way, self._process, self._log = way, process, log

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise EndedError if it failed, or if it ended although it streams."""
        code = self._process.poll()
        if code or (code == 0 and self._way.streams):
            raise EndedError(f"{self._way.name} ended with {code}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-1500:]


def python_of(way: Way, peers_python: Path | None) -> Path | None:
    """The Python that has what the way needs, None if there is none."""
    if way.package is None:
        return Path(sys.executable)
    if peers_python is None or not peers_python.exists():
        return None
    return peers_python if version_of(way.package, peers_python) else None


def version_of(package: str, peers_python: Path) -> str:
    """The version that is installed for that Python, empty if none is."""
    found = subprocess.run(
        [peers_python, "-c", f"import importlib.metadata as m; print(m.version('{package}'))"],
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


@contextmanager
def started(way: Way, python: Path, servers: Servers, place: Database, topic: str) -> Iterator[Running]:
    """The way at work on a topic and a database, stopped at the end with all that it started."""
    folder = servers.home / "ways" / place.name
    folder.mkdir(parents=True)
    log = folder / "log"
    arguments = way.options if way.is_ours else (servers.kafka, topic, place.owner_dsn, str(folder))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(python), "-m", way.module, *arguments],
            env=servers.environment(place, topic) | {"PYTHONPATH": str(ROOT), "PATHWAY_THREADS": str(os.cpu_count())},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield Running(way, process, log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its JVM and workers, where it left some behind
        process.wait()
