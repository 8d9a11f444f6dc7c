"""One command of the project as a task, run by the project's own Python."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

PROJECT = Path(__file__).resolve().parents[1]
# Usage, and what a guard or a check refused: another try would end the same way.
_IN_VAIN = (2, 3)


def project_python() -> str:
    """The Python that has the project installed: MART_PYTHON, else that of its virtual environment."""
    return os.environ.get("MART_PYTHON") or str(PROJECT / ".venv" / "bin" / "python")


class CommandFailedError(Exception):
    """A command did not exit with 0; the message holds the last line of what it said."""


class ProjectCommand(BaseOperator):
    """Runs `retail-mart ARGUMENTS…` in the project's folder, what it says going to the task's log.

    It finds the mart, the lake and the rest as a person's command would: by environment variables and MART_HOME.
    """

    template_fields: Sequence[str] = ("arguments",)
    ui_color = "#e8f0e8"

    def __init__(self, *, arguments: Sequence[str], **more: Any) -> None:
        super().__init__(**more)
        self.arguments = arguments

    @property
    def command_line(self) -> str:
        """The command as one types it in the project's folder."""
        return shlex.join([project_python(), "-m", "cli", *self.arguments])

    @cached_property
    def _subprocess(self) -> SubprocessHook:
        return SubprocessHook()

    def execute(self, context: Any) -> None:  # noqa: ARG002
        """Run it. Raises CommandFailedError, AirflowFailException where another try would be in vain."""
        python = project_python()
        if not os.access(python, os.X_OK):
            raise AirflowFailException(f"no Python at {python}: set MART_PYTHON to one that has the project installed")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        # Wide, so that a message is one line: its last one goes into the alert.
        environment |= {"COLUMNS": "1000", "PYTHONUNBUFFERED": "1"}
        done = self._subprocess.run_command([python, "-m", "cli", *self.arguments], env=environment, cwd=str(PROJECT))
        if done.exit_code:
            failed = AirflowFailException if done.exit_code in _IN_VAIN else CommandFailedError
            raise failed(
                f"`retail-mart {shlex.join(self.arguments)}` ended with exit code {done.exit_code}: {done.output}"
            )

    def on_kill(self) -> None:
        """Stop the command and what it started."""
        self._subprocess.send_sigterm()
