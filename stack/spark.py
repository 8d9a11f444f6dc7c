"""A standalone Spark cluster of plain processes on this machine: a master and workers, from pyspark's own scripts."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark

from jvm import java_home
from stack import process
from stack.state import StackError

_READY_SECONDS = 60
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


@contextmanager
def standalone_cluster(folder: Path, workers: int = 2, cores: int = 1, memory: str = "1g") -> Iterator[Cluster]:
    """A master and workers (each with so many cores and so much memory for executors) on 127.0.0.1, gone at the end.

    Raises StackError with the end of the log if one does not start.
    """
    port, web_port = process.free_port(), process.free_port()
    cluster = Cluster(f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web_port}", folder / "work")
    address = ("--host", "127.0.0.1")
    with ExitStack() as started:
        master = ("master.Master", *address, "--port", str(port), "--webui-port", str(web_port))
        started.enter_context(_daemon(folder / "master.log", *master))
        _wait_for(lambda: process.accepts(port) and process.accepts(web_port), folder / "master.log")
        for number in range(workers):
            limits = ("--cores", str(cores), "--memory", memory, "--work-dir", str(cluster.work / str(number)))
            worker = ("worker.Worker", *address, "--webui-port", "0", *limits, cluster.master)
            started.enter_context(_daemon(folder / f"worker-{number}.log", *worker))
        _wait_for(
            lambda: sum(w["state"] == "ALIVE" for w in cluster.state()["workers"]) == workers, folder / "worker-0.log"
        )
        yield cluster


@contextmanager
def _daemon(log: Path, name: str, *arguments: str) -> Iterator[None]:
    home = Path(pyspark.__file__).parent
    environment = {
        **os.environ,
        "JAVA_HOME": str(java_home()),
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": _DAEMON_MEMORY,
    }
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        daemon.terminate()  # a worker ends its executors
        try:
            daemon.wait(timeout=15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait_for(ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise StackError(f"Spark is not ready after {_READY_SECONDS} s; the end of {log}:\n{process.tail(log)}")
        time.sleep(0.2)
