"""A standalone Spark cluster of plain processes on this machine: a master and workers, from pyspark's own scripts."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyspark

from jvm import java_home
from stack import process

_NAME = "Spark"
_READY_SECONDS = 60
_STOP_SECONDS = 15
_DAEMON_MEMORY = "256m"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the master's URL for --master, its web page, and the workers' folder of executor logs."""

    master: str
    web: str
    work: Path

    def state(self) -> dict[str, Any]:
        """The master's own account (its REST JSON): `workers`, `activeapps`, `completedapps`."""
        with urllib.request.urlopen(f"{self.web}/json/", timeout=10) as answer:  # noqa: S310, our own address
            return dict(json.load(answer))

    def alive(self) -> int:
        """How many workers the master has; none while it does not answer.

        Its web server takes connections before it has its pages: a 404 meanwhile is no answer of the master's.
        """
        try:
            return sum(worker["state"] == "ALIVE" for worker in self.state()["workers"])
        except (OSError, ValueError):
            return 0


@contextmanager
def standalone_cluster(folder: Path, workers: int = 2, cores: int = 1, memory: str = "1g") -> Iterator[Cluster]:
    """A master and workers (each with so many cores and so much memory for executors) on 127.0.0.1, gone at the end.

    Raises StackError with the end of the log if one does not start.
    """
    port, web_port = process.free_port(), process.free_port()
    cluster = Cluster(f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web_port}", folder / "work")
    address = ("--host", "127.0.0.1")
    with ExitStack() as started:
        log, ports = folder / "master.log", ("--port", str(port), "--webui-port", str(web_port))
        master = started.enter_context(_daemon(log, "master.Master", *address, *ports))
        process.wait_until_ready(
            master, _NAME, log, lambda: process.accepts(port) and process.accepts(web_port), _READY_SECONDS
        )
        for number in range(workers):
            limits = ("--cores", str(cores), "--memory", memory, "--work-dir", str(cluster.work / str(number)))
            worker = ("worker.Worker", *address, "--webui-port", "0", *limits, cluster.master)
            started.enter_context(_daemon(folder / f"worker-{number}.log", *worker))
        process.wait_until_ready(
            master, _NAME, folder / "worker-0.log", lambda: cluster.alive() == workers, _READY_SECONDS
        )
        yield cluster


@contextmanager
def _daemon(log: Path, name: str, *arguments: str) -> Iterator[psutil.Process]:
    home = Path(pyspark.__file__).parent
    environment = {
        **os.environ,
        "JAVA_HOME": str(java_home()),
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": _DAEMON_MEMORY,
    }
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *arguments]
    daemon = process.start(command, log, environment=environment)
    try:
        yield daemon
    finally:
        process.stop(daemon, [(signal.SIGTERM, _STOP_SECONDS)])  # a worker ends its executors
