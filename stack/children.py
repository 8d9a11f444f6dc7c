"""What a command started ends with it, however the command ends: also by `kill -9`, when it can do nothing any more.

All that it starts, and what that starts, inherits a mark in its environment: which command of which home. A guard, a
process of its own session, reads from a pipe that the command holds open; the kernel closes it when the command is
gone, and the guard ends what has the mark. Linux's parent-death signal does less: it reaches direct children alone and
not Spark's JVM, comes when the starting *thread* ends, is lost where a process changes its account (PostgreSQL, as
root), and does not insist. Where the guard was killed as well, the mark is still there for the next `up`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from conf.stop_signals import STOPS, handled_by
from stack import process
from stack.state import StackError

MARK = "MART_STARTED_BY"
_PROJECT = Path(__file__).resolve().parents[1]
_TERM_SECONDS = 20
_KILL_SECONDS = 10
_POLL_SECONDS = 0.1
# Nothing of the project is imported before it is needed: a guard that waits takes no more than Python does.
_GUARD = """
import signal, sys
# Whoever sends these to all of us sends them to the command too: when that is gone, it is our turn.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
from stack.lifecycle import end_started_by
end_started_by(sys.argv[1], servers=sys.argv[2] == "servers", seconds=float(sys.argv[3]))
"""


class Command(NamedTuple):
    """A command that started others: its process, known by pid and start, and the home that it works in."""

    pid: int
    created: float
    home: Path

    @classmethod
    def from_mark(cls, mark: str) -> Self | None:
        """The command of a mark; None if the text is none."""
        try:
            pid, created, home = mark.split(" ", 2)
            return cls(int(pid), float(created), Path(home))
        except ValueError:
            return None

    def mark(self) -> str:
        return f"{self.pid} {self.created} {self.home}"

    def runs(self) -> bool:
        return process.is_running(self.pid, self.created)


class Child(NamedTuple):
    """A running process and the command that started it, itself or through another."""

    process: psutil.Process
    command: Command

    def name(self) -> str:
        """`retail-mart run` of a command of ours, else the program's name: arguments may hold secrets."""
        with contextlib.suppress(psutil.Error):
            line = self.process.cmdline()
            if line[1:3] == ["-m", "cli"]:
                return " ".join(["retail-mart", *line[3:4]])
            return Path(line[0]).name if line else self.process.name()
        return "?"


def command_of(candidate: psutil.Process) -> Command | None:
    """The command that started the process; None if it has no mark, is gone, or is not ours to look at."""
    try:
        mark = candidate.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return Command.from_mark(mark) if mark else None


def children(home: Path) -> list[Child]:
    """All running processes, but this one, that a command of the home has started."""
    marked = ((p, command_of(p)) for p in psutil.process_iter() if p.pid != os.getpid())
    return [Child(found, command) for found, command in marked if command and command.home == home]


def topmost(found: Sequence[Child]) -> list[Child]:
    """Those that none of the others has started."""
    pids, top = {child.process.pid for child in found}, []
    for child in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.process.ppid() not in pids:
                top.append(child)
    return top


def end(find: Callable[[], Sequence[Child]], seconds: float = _TERM_SECONDS) -> list[str]:
    """SIGTERM to what is found topmost, so that it ends its own in order, and kill -9 to all that is left in the end.

    `find` is asked again until nothing is found: a process that ends may start another. Returns whom it told to end.
    Raises StackError if one does not go.
    """
    told: dict[int, str] = {}
    killing = time.monotonic() + seconds
    while found := find():
        late = time.monotonic() - killing
        if late > _KILL_SECONDS:
            pids = ", ".join(str(child.process.pid) for child in found)
            raise StackError(f"SIGKILL does not end the processes {pids}: is a disk stuck?")
        for child in found if late > 0 else topmost(found):
            with contextlib.suppress(psutil.NoSuchProcess):
                if late > 0:
                    child.process.kill()
                elif child.process.pid not in told:
                    told[child.process.pid] = f"{child.name()} (pid {child.process.pid})"
                    child.process.terminate()
        time.sleep(_POLL_SECONDS)
    return list(told.values())


def run(program: Sequence[str]) -> int:
    """Run a program in the foreground; a stop signal of ours is its own. The exit code as a shell gives it."""
    try:
        started = subprocess.Popen(program, start_new_session=True)  # Ctrl-C reaches it once: by us
    except OSError as error:
        raise StackError(f"cannot run {program[0]}: {error.strerror}") from None

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, number)

    with handled_by(pass_on, *STOPS):
        code = started.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def end_with_us(home: Path, servers: bool, seconds: float = _TERM_SECONDS) -> Iterator[None]:
    """What this process starts within the block ends with the block or with the process, whichever is first.

    `servers`: so do the home's Kafka and PostgreSQL, if they were started within it. `seconds` passes between SIGTERM
    and kill -9. What was left to be ended is in log/guard.log of the home.
    """
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    us = Command(os.getpid(), psutil.Process().create_time(), home)
    before = os.environ.get(MARK)
    path = os.pathsep.join(filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH"))))
    unmarked = {name: value for name, value in os.environ.items() if name != MARK} | {"PYTHONPATH": path}
    log = home / "log" / "guard.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, us.mark(), "servers" if servers else "parts", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # neither Ctrl-C nor the end of a terminal or of a process group reaches it
            env=unmarked,
        )
    os.environ[MARK] = us.mark()
    try:
        yield
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before
        assert guard.stdin is not None  # noqa: S101
        guard.stdin.close()
        if guard.wait():
            raise StackError(f"what this command started may still run; the end of {log}:\n{process.tail(log)}")
