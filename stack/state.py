"""What the stack remembers between commands: one file, private to its owner, that `conf.settings` reads too."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ValidationError

from conf.errors import OperatorError
from conf.settings import STATE_FILE_NAME


class StackError(OperatorError):
    """A server of the stack could not be started, reached or stopped; the message says which, why and the fix."""


class Server(BaseModel):
    """A server process of ours: which one (pid, start time in seconds since the epoch), its port and its log."""

    pid: int
    created: float
    port: int
    log: Path


class State(BaseModel):
    """The stack as last written. The fields above the line are settings of the same names.

    Those are there between `up` and `down`; the servers' records stay, for the next start to take the old ports.
    """

    kafka_bootstrap_servers: str | None = None
    mart_dsn: str | None = None
    mart_owner_dsn: str | None = None
    mart_reader_dsn: str | None = None
    # --- for the stack itself
    superuser_dsn: str | None = None
    broker: Server | None = None
    database: Server | None = None

    def environment(self) -> dict[str, str]:
        """The environment variables that point a child process at these servers."""
        known = self.model_dump(include={"kafka_bootstrap_servers", "mart_dsn", "mart_owner_dsn", "mart_reader_dsn"})
        return {name.upper(): value for name, value in known.items() if value is not None}


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone. A crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mkstemp: mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_state(home: Path) -> State:
    """The state written in a home; an empty one if there is none or it is not readable as one."""
    try:
        return State.model_validate_json((home / STATE_FILE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return State()  # servers are found by their command line, passwords are kept with the data


def write_state(home: Path, state: State) -> None:
    """Write the state, unset values left out so that they never hide a default of the settings."""
    write_private(home / STATE_FILE_NAME, state.model_dump_json(indent=2, exclude_none=True) + "\n")
