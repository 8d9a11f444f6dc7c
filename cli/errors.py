"""What ends a command, in words and with which exit code: for every command, here alone.

| code | what ended it | said before its message, and after … |
| ---- | ------------- | ------------------------------------ |
| 0 | it is done | |
| 1 | OperatorError: somebody has something to do | |
| 1 | standard output takes no more (a full disk) | standard output cannot be written: |
| 2 | UsageError, and what Typer refuses of the arguments | |
| 3 | FencedError: a newer job has taken over | |
| 3 | KeptBackError: a guard kept a run back | kept back, the current rules stay: |
| 3 | QualityError: a check of the rules failed | not sound: |
| 4 | UnavailableError: Kafka, PostgreSQL, the lake or Metabase is unavailable | gave up: … when to run it again |
| 5 | NotLandedError: lake and mart do not agree yet; `verify`: not equal | not landed: |
| 128 + n | a signal: 130 Ctrl-C, 143 SIGTERM; 141 if who reads standard output has gone (silent) | |

A foreign error that reaches a command is first made one of these: psycopg2's by conf.postgres.answering, Kafka's that
another try may end by UnavailableError. Whatever is left is a fault of the program, and keeps its traceback (exit code
1).
"""

from __future__ import annotations

import sys
import traceback

from batch_rules.errors import KeptBackError, NotLandedError, QualityError
from cli.console import errors
from conf.errors import FencedError, OperatorError, UnavailableError, UsageError
from conf.json_lines import event, is_json_lines

OPERATOR, USAGE, UNAVAILABLE, NOT_EQUAL = 1, 2, 4, 5
_TABLE: tuple[tuple[type[Exception], int, str], ...] = (  # the first that fits
    (FencedError, 3, ""),
    (KeptBackError, 3, "kept back, the current rules stay: "),
    (QualityError, 3, "not sound: "),
    (NotLandedError, NOT_EQUAL, "not landed: "),
    (UnavailableError, UNAVAILABLE, "gave up: "),
    (UsageError, USAGE, ""),
    (OperatorError, OPERATOR, ""),
)


def tell(error: Exception) -> int:
    """Say what ended the command; returns the exit code. Raises the error itself if it is none that is known."""
    known = _ours(error)
    for kind, code, before in _TABLE:
        if isinstance(known, kind):
            after = known.when_back if isinstance(known, UnavailableError) else ""
            said = str(known).rstrip(".?! ") if after else known
            _say(f"{before}{said}{after}", code)
            return code
    if is_json_lines():
        told = "".join(traceback.format_exception(error))
        sys.stderr.write(f"{event('this is a bug, please report it', 'critical', exception=told)}\n")
        return OPERATOR
    raise error


def _say(sentence: str, code: int) -> None:
    if is_json_lines():
        sys.stderr.write(f"{event(sentence, 'error', exit_code=code)}\n")
    else:
        errors.print(sentence, style="red")


def _ours(error: Exception) -> Exception:
    """The error of ours for a foreign one."""
    if "psycopg2" in sys.modules:
        import psycopg2

        from conf.postgres import answering

        if isinstance(error, psycopg2.Error):
            try:
                with answering():
                    raise error
            except Exception as mapped:
                return mapped
    if "kafka" in sys.modules:
        from kafka.errors import KafkaError

        if isinstance(error, KafkaError) and error.retriable:
            return UnavailableError(f"Kafka: {error}")
    return error
