"""Detached server processes: start one, find it again by what it is, stop it, and read the end of its log."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from stack.state import StackError

_LOG_BYTES_KEPT = 10_000_000
_TAIL_LINES = 20
_POLL_SECONDS = 0.05
_KILL_SECONDS = 10
_SCRATCH = "new-"
# Linux derives a process's start from the boot time, which a clock correction moves a little.
_CREATED_TOLERANCE_SECONDS = 5.0


@contextlib.contextmanager
def locked(file: Path, seconds: float, refusal: str) -> Iterator[None]:
    """Hold a lock, which ends with this process at the latest. Raises StackError if another one keeps it so long."""
    try:
        held = FileLock(file, timeout=seconds).acquire()
    except Timeout:
        raise StackError(refusal) from None
    with held:
        yield


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A new empty folder in which a tool may make data that are then moved to their place; gone at the end.

    Never one of before: a tool whose starter was killed may still write there.
    """
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def delete_scratch(folder: Path) -> None:
    """The scratch folders that a killed start has left in this one."""
    for left_over in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def free_port(preferred: int | None = None) -> int:
    """A port of 127.0.0.1 that nobody listens on: the preferred one if it is free, else any."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1; connections still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find(command_end: Sequence[str], pid: int | None = None, created: float | None = None) -> psutil.Process | None:
    """The running process whose command line ends so, wherever its pid was or was not recorded.

    The command line names files of one home, so it is that home's server: a recorded pid which another process
    has today is not mistaken for it, and a server whose start was not recorded (a crash in between) is found.
    """
    if pid is not None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if (created is None or _started_at(process, created)) and _ends_with(process, command_end):
                return process
    return next((p for p in psutil.process_iter() if _ends_with(p, command_end)), None)


def is_running(pid: int, created: float) -> bool:
    """Whether the process which had this pid and start runs."""
    try:
        process = psutil.Process(pid)
        return _started_at(process, created) and alive(process)
    except psutil.Error:
        return False


def _started_at(process: psutil.Process, created: float) -> bool:
    return abs(process.create_time() - created) < _CREATED_TOLERANCE_SECONDS


def _ends_with(process: psutil.Process, command_end: Sequence[str]) -> bool:
    try:
        return process.cmdline()[-len(command_end) :] == list(command_end)  # a zombie has no command line
    except psutil.Error:
        return False


def start(
    command: Sequence[str],
    log: Path,
    user: tuple[int, int] | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> psutil.Process:
    """Start a process of its own session that outlives us, its output appended to `log`; (uid, gid) to drop to.

    `environment` None: ours. Raises StackError if the executable cannot be run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES_KEPT:
        log.replace(log.with_suffix(".log.1"))
    uid, gid = user or (None, None)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=[] if user else None,
                cwd=cwd or "/",
                env=environment,
            )
    except OSError as error:
        raise StackError(f"cannot run {command[0]}: {error}") from error
    process = psutil.Process(child.pid)
    child.returncode = 0  # it is meant to outlive us: no warning that it does. psutil reaps it if it dies first
    return process


def wait_until_ready(process: psutil.Process, name: str, log: Path, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready()`. Raises StackError with the end of the log if the process ends or the time does."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive(process):
            raise StackError(f"{name} ended while it started; the end of {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StackError(f"{name} is not ready after {seconds:.0f} s; the end of {log}:\n{tail(log)}")
        time.sleep(_POLL_SECONDS)


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one of our own children that has ended is reaped on the way.

    A killed JVM is a zombie some milliseconds before its last thread is gone, and with that its ports and files.
    """
    for _ in range(2):  # one that ends between the two questions is reaped by the second look
        try:
            process.wait(timeout=0)
        except psutil.TimeoutExpired:
            with contextlib.suppress(psutil.Error):  # a zombie without threads: another's child, not reaped yet
                if process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1:
                    return True
        except psutil.NoSuchProcess:  # its parent has reaped it meanwhile
            return False
        else:
            return False
    return False


def stop(process: psutil.Process, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal and wait its seconds for the end, then kill -9. True if it ended without the last."""
    for number, seconds in signals:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        if _ends_within(process, seconds):
            return True
    kill(process)
    return False


def kill(process: psutil.Process) -> None:
    """kill -9, and wait until it is gone. Raises StackError if it does not go."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    if not _ends_within(process, _KILL_SECONDS):
        raise StackError(f"SIGKILL does not end process {process.pid}: is its disk stuck?")


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
