"""Start, look at, stop and delete the stack of one home. Several homes are several stacks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from conf.counted import counted
from conf.settings import STATE_FILE_NAME, Settings, external_servers
from stack import broker, children, database, process
from stack.children import Child, Command
from stack.state import Server, StackError, State, read_state, write_state
from stack.topic import ensure_topic

_LOCK_SECONDS = 120
_FOLDERS = ("kafka", "postgres", "log", "lake", "checkpoint")  # the latter two are made from the topic


class Started(NamedTuple):
    """A process that a command of the home started for its own run. `left`: that command is gone."""

    name: str
    pid: int
    command_pid: int
    left: bool


class ServerStatus(NamedTuple):
    """A server as it is now. `address` is host:port, of a running one; `data_bytes` is the disk that it takes."""

    name: str
    running: bool
    address: str | None
    pid: int | None
    data_bytes: int
    log: Path


def up_as_configured(configured: Settings, say: Callable[[str], None] = lambda _: None) -> State:
    """`up` in the settings' home with the settings' topic, using the servers that the environment names."""
    kafka, mart = external_servers()
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
        end_left_over(home, say)
        state = read_state(home)
        with ThreadPoolExecutor(2) as pool:
            brokers = None if external_kafka else pool.submit(_start, broker, home, state.broker, say)
            databases = None if external_mart else pool.submit(_start, database, home, state.database, say)
            starting = [f for f in (brokers, databases) if f]
            wait(starting)  # here: a signal that raises lets the pool still wait, so that nothing starts after the end
        failures = [f.exception() for f in starting if f.exception()]
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
        say(f"topic {topic}: {counted(count, 'partition')}")
    return state


def down(home: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Stop both servers cleanly, by force if they do not end in time; the data is kept. None running is no error."""
    if home.is_dir():
        with _stopped(home, say):
            pass


def reset(home: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Stop both servers and delete their data, logs and passwords, the lake and the checkpoints of this home."""
    if home.is_dir():
        with _stopped(home, say):
            for folder in doomed(home):
                shutil.rmtree(folder)
            (home / STATE_FILE_NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped(home: Path, say: Callable[[str], None]) -> Iterator[None]:
    """While nothing of the home runs and nobody else can start it."""
    home = _prepared(home)
    with _locked(home):
        end_left_over(home, say)
        _stop(home, say)
        yield


def doomed(home: Path) -> list[Path]:
    """The folders that `reset` deletes."""
    return [home / name for name in _FOLDERS if (home / name).is_dir()]


def status(home: Path) -> list[ServerStatus]:
    """Broker and database as they are now, found by their processes, not by what was recorded."""
    home = home.resolve()
    state = read_state(home)
    return [_status(broker, home, state.broker), _status(database, home, state.database)]


def started(home: Path) -> list[Started]:
    """What commands of this home have started for their own run beside the servers, and what is left of such."""
    return [
        Started(child.name(), child.process.pid, child.command.pid, not child.command.runs())
        for child in children.topmost(_parts(home.resolve()))
    ]


def end_started_by(mark: str, servers: bool, seconds: float) -> None:
    """The guard's work when the command of the mark is gone: end all that it started, with `servers` the servers too.

    A server that was there before, or that another `up` has started since, is not its own. Says what it ended.
    """
    command = Command.from_mark(mark)
    if command is None:
        raise StackError(f"{mark!r} names no command")
    for ended in children.end(lambda: [c for c in _parts(command.home) if c.command == command], seconds):
        print("ended", ended)
    if servers and _owned(command):
        with _locked(command.home):
            _stop(command.home, print, _owned(command))


def kill_broker(home: Path) -> bool:
    """kill -9 the broker, for tests of recovery; `up` starts it again. False if it did not run."""
    return _kill(home, broker)


def kill_database(home: Path) -> bool:
    """kill -9 PostgreSQL, for tests of recovery; `up` starts it again. False if it did not run."""
    return _kill(home, database)


def _kill(home: Path, module: Any) -> bool:
    found = dict(_servers(home.resolve())).get(module)
    if found is not None:
        process.kill(found)
    return found is not None


def stop_broker(home: Path) -> bool:
    """Stop the broker alone, cleanly; `up` starts it again. False if it did not run."""
    return broker.stop(home.resolve(), read_state(home).broker)


def stop_database(home: Path) -> bool:
    """Stop PostgreSQL alone, cleanly; `up` starts it again. False if it did not run."""
    return database.stop(home.resolve(), read_state(home).database)


def _servers(home: Path) -> list[tuple[Any, psutil.Process]]:
    """Those that run, each with its module."""
    state = read_state(home)
    found = ((broker, broker.running(home, state.broker)), (database, database.running(home, state.database)))
    return [(module, server) for module, server in found if server]


def _owned(command: Command) -> list[Any]:
    """The modules of the servers that the command started."""
    return [module for module, server in _servers(command.home) if children.command_of(server) == command]


def _parts(home: Path) -> list[Child]:
    """What commands of the home have started, without the servers, whose life is `up` and `down`."""
    found = children.children(home)
    if not found:
        return []
    servers = set()
    for _, server in _servers(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            servers |= {server.pid, *(child.pid for child in server.children(recursive=True))}
    return [child for child in found if child.process.pid not in servers]


def end_left_over(home: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """End what a command of the home left that was killed together with its guard; servers stay."""
    home = home.resolve()
    for ended in children.end(lambda: [child for child in _parts(home) if not child.command.runs()]):
        say(f"ended {ended}, which a killed command had left")


def _prepared(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home.resolve()  # the servers are known by their command line: one home must have one name


def _locked(home: Path) -> AbstractContextManager[None]:
    refusal = f"another `retail-mart` has been at work in {home} for {_LOCK_SECONDS} s: wait for it, or end it"
    return process.locked(home / "stack.lock", _LOCK_SECONDS, refusal)


def _start(module: Any, home: Path, recorded: Server | None, say: Callable[[str], None]) -> Server:
    before = module.running(home, recorded)
    server: Server = module.start(home, recorded)
    say(f"{module.NAME} {'is already running' if before else 'started'} at 127.0.0.1:{server.port} (pid {server.pid})")
    return server


def _stop(home: Path, say: Callable[[str], None], modules: Sequence[Any] = (broker, database)) -> None:
    state = read_state(home)
    recorded = {broker: state.broker, database: state.database}
    with ThreadPoolExecutor(2) as pool:
        stops = {module.NAME: pool.submit(module.stop, home, recorded[module]) for module in modules}
    for name, stopped in stops.items():
        say(f"{name} {'stopped' if stopped.result() else 'was not running'}")
    addresses = _addresses(home, state.broker, state.database)  # of one that another command started
    write_state(home, State(broker=state.broker, database=state.database, **addresses))


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
    for parent, folders, files in os.walk(folder):  # it, too, passes over what is deleted under our eyes or not ours
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * 512
    return total
