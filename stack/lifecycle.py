"""Start, look at, stop and delete the stack of one home. Several homes are several stacks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import fasteners

from conf.settings import STATE_FILE_NAME, external_servers, settings
from stack import broker, database
from stack.state import Server, StackError, State, read_state, write_state
from stack.topic import ensure_topic

_LOCK_SECONDS = 120
_FOLDERS = ("kafka", "postgres", "log", "lake", "checkpoint")  # the latter two are made from the topic


class ServerStatus(NamedTuple):
    """A server as it is now. `address` is host:port, of a running one; `data_bytes` is the disk that it takes."""

    name: str
    running: bool
    address: str | None
    pid: int | None
    data_bytes: int
    log: Path


def up_as_configured(say: Callable[[str], None] = lambda _: None) -> State:
    """`up` in the settings' home with the settings' topic, using the servers that the environment names."""
    kafka, mart = external_servers()
    configured = settings()
    return up(
        configured.mart_home,
        topic=configured.kafka_topic,
        partitions=configured.kafka_topic_partitions,
        external_kafka=kafka,
        external_mart=mart,
        kafka_seconds=configured.kafka_timeout_seconds,
        kafka_security=configured.kafka_security() if kafka else None,
        say=say,
    )


def up(
    home: Path,
    *,
    topic: str | None = None,
    partitions: int = 2,
    external_kafka: str | None = None,
    external_mart: str | None = None,
    kafka_seconds: float = 30,
    kafka_security: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> State:
    """Have broker and database running and the topic there; what runs already is left as it is.

    An external server (its address) is used and nothing started for it; the returned state names it, the state
    file does not; `kafka_seconds` is how long its brokers are waited for, `kafka_security` (Settings.kafka_security())
    how they are talked to. Raises StackError, JavaNotFoundError or JarDownloadError; a server that did start stays up.
    """
    home = _prepared(home)
    with _locked(home):
        state = read_state(home)
        with ThreadPoolExecutor(2) as pool:
            brokers = None if external_kafka else pool.submit(_start, broker, home, state.broker, say)
            databases = None if external_mart else pool.submit(_start, database, home, state.database, say)
        failures = [f.exception() for f in (brokers, databases) if f and f.exception()]
        kept = {"broker": state.broker, "database": state.database}
        if brokers and not brokers.exception():
            kept["broker"] = brokers.result()
        if databases and not databases.exception():
            kept["database"] = databases.result()
        state = State(**kept, **_addresses(home, kept["broker"], kept["database"]))
        write_state(home, state)
        for failure in failures:
            if failure is not None:
                raise failure
    if external_kafka:
        state.kafka_bootstrap_servers = external_kafka
    if external_mart:
        state.mart_dsn = external_mart
        state.mart_owner_dsn = os.environ.get("MART_OWNER_DSN")
        state.mart_reader_dsn = os.environ.get("MART_READER_DSN")
        state.superuser_dsn = None
    if topic and state.kafka_bootstrap_servers:
        count = ensure_topic(state.kafka_bootstrap_servers, topic, partitions, kafka_seconds, kafka_security)
        say(f"topic {topic}: {count} partitions")
    return state


def down(home: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Stop both servers cleanly, by force if they do not end in time; the data stay. None running is no error."""
    if not home.is_dir():
        return
    home = _prepared(home)
    with _locked(home):
        _stop(home, say)


def reset(home: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Stop both servers and delete their data, logs and passwords, the lake and the checkpoints of this home."""
    if not home.is_dir():
        return
    home = _prepared(home)
    with _locked(home):
        _stop(home, say)
        for folder in doomed(home):
            shutil.rmtree(folder)
        (home / STATE_FILE_NAME).unlink(missing_ok=True)


def doomed(home: Path) -> list[Path]:
    """The folders that `reset` deletes."""
    return [home / name for name in _FOLDERS if (home / name).is_dir()]


def status(home: Path) -> list[ServerStatus]:
    """Broker and database as they are now, found by their processes, not by what was recorded."""
    home = home.resolve()
    state = read_state(home)
    return [_status(broker, home, state.broker), _status(database, home, state.database)]


def kill_broker(home: Path) -> bool:
    """kill -9 the broker, for tests of recovery; `up` starts it again. False if it did not run."""
    return broker.kill(home.resolve(), read_state(home).broker)


def kill_database(home: Path) -> bool:
    """kill -9 PostgreSQL, for tests of recovery; `up` starts it again. False if it did not run."""
    return database.kill(home.resolve(), read_state(home).database)


def stop_broker(home: Path) -> bool:
    """Stop the broker alone, cleanly; `up` starts it again. False if it did not run."""
    return broker.stop(home.resolve(), read_state(home).broker)


def stop_database(home: Path) -> bool:
    """Stop PostgreSQL alone, cleanly; `up` starts it again. False if it did not run."""
    return database.stop(home.resolve(), read_state(home).database)


def _prepared(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home.resolve()  # the servers are known by their command line: one home must have one name


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    lock = fasteners.InterProcessLock(home / "stack.lock")
    if not lock.acquire(timeout=_LOCK_SECONDS):
        raise StackError(f"another `retail-mart` has been at work in {home} for {_LOCK_SECONDS} s")
    try:
        yield
    finally:
        lock.release()


def _start(module: Any, home: Path, recorded: Server | None, say: Callable[[str], None]) -> Server:
    before = module.running(home, recorded)
    server: Server = module.start(home, recorded)
    say(f"{module.NAME} {'was running' if before else 'started'} at 127.0.0.1:{server.port} (pid {server.pid})")
    return server


def _stop(home: Path, say: Callable[[str], None]) -> None:
    state = read_state(home)
    with ThreadPoolExecutor(2) as pool:
        stops = {
            broker.NAME: pool.submit(broker.stop, home, state.broker),
            database.NAME: pool.submit(database.stop, home, state.database),
        }
    for name, stopped in stops.items():
        say(f"{name} {'stopped' if stopped.result() else 'was not running'}")
    write_state(home, State(broker=state.broker, database=state.database))


def _addresses(home: Path, kafka: Server | None, mart: Server | None) -> dict[str, str]:
    """The state's fields that are settings, of the servers that run."""
    addresses = {}
    if kafka and broker.running(home, kafka):
        addresses["kafka_bootstrap_servers"] = f"127.0.0.1:{kafka.port}"
    if mart and database.running(home, mart):
        roles = {
            "mart_dsn": database.WRITER,
            "mart_owner_dsn": database.OWNER,
            "mart_reader_dsn": database.READER,
            "superuser_dsn": database.SUPERUSER,
        }
        addresses |= {name: database.dsn(home, role, mart.port) for name, role in roles.items()}
    return addresses


def _status(module: Any, home: Path, recorded: Server | None) -> ServerStatus:
    found = module.running(home, recorded)
    return ServerStatus(
        module.NAME,
        found is not None,
        f"127.0.0.1:{recorded.port}" if found and recorded else None,
        found.pid if found else None,
        _disk_bytes(module.data_folder(home)),
        module.log_file(home),
    )


def _disk_bytes(folder: Path) -> int:
    """Blocks taken, not lengths: the broker's index files are long and empty."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted under our eyes, or not ours to look at
            total += path.lstat().st_blocks * 512
    return total
