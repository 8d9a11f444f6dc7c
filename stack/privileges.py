"""As root: run PostgreSQL, which refuses root, as an unprivileged account. No account or folder is changed for it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from stack.state import StackError

_ACCOUNTS = ("postgres", "nobody")
# The repository or the virtual environment may lie below a folder that only root enters (/root is 700).
# One capability lets the server pass it; reading suffices, but containers often have only the wider one.
_CAPABILITIES = ("dac_read_search", "dac_override")
# PostgreSQL asks access(2) whether its own binaries are executable, and that call forgets the capability of whoever is
# not root, unless this bit is set. No program with a set-user-id bit is then to be trusted: hence no new privileges.
_PASSING = ("--securebits=+no_setuid_fixup", "--no-new-privs")
# What initdb does first and postgres too: find itself, and the other one beside it.
_REACHES = '"$1/initdb" --show --pgdata="$2" >/dev/null && cd "$2"'


class RunAs(NamedTuple):
    """How to start a process unprivileged: (uid, gid) to drop to, or None, and a command to put before its own."""

    user: tuple[int, int] | None = None
    prefix: tuple[str, ...] = ()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program, to its end."""
        uid, gid = self.user or (None, None)
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=[] if self.user else None,
        )


def owner_for(folder: Path) -> tuple[int, int] | None:
    """(uid, gid) that must own a data folder: of root, an unprivileged account (the one that owns it already).

    None for an ordinary user. Raises StackError if this machine knows no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in _ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise StackError(f"PostgreSQL refuses to run as root, and this system has no account {' or '.join(_ACCOUNTS)}")


def run_as(user: tuple[int, int] | None, binaries: Path, folder: Path, reaches: str = _REACHES) -> RunAs:
    """The least privileged way in which `user` can run PostgreSQL's binaries and enter the folder; tried, not guessed.

    `reaches`: the shell's words that try it, for another program than PostgreSQL: $1 is it, $2 the folder.

    Raises StackError with the fix if there is none.
    """
    if user is None:
        return RunAs()
    ways = [RunAs(user)]
    if setpriv := shutil.which("setpriv"):
        identity = (f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups")
        ways += [
            RunAs(None, (setpriv, *identity, f"--inh-caps=+{name}", f"--ambient-caps=+{name}", *_PASSING, "--"))
            for name in _CAPABILITIES
        ]
    fault = ""
    for way in ways:
        fault = _fault(way, binaries, folder, reaches)
        if not fault:
            return way
    raise StackError(
        f"PostgreSQL refuses to run as root, and the account with uid {user[0]} cannot reach {binaries} or "
        f"{folder}: install setpriv (util-linux), use folders that others may enter, or do not run as root. "
        f"The last attempt: {fault}"
    )


def _fault(way: RunAs, binaries: Path, folder: Path, reaches: str) -> str:
    """Why this way does not lead there; empty if it does."""
    test = way.run("/bin/sh", "-c", reaches, "sh", str(binaries), str(folder))
    return (test.stderr.strip() or f"exit code {test.returncode}") if test.returncode else ""
