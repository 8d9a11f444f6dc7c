"""Publish: write a run and its rules to the mart in one transaction, and return to an earlier run."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from batch_rules.errors import KeptBackError, RulesError
from batch_rules.measure import Rules
from conf.counted import counted
from mart.status import RunStatus
from sql import one_row, statement

APPLICATION = "retail-mart rules"
"""The name of the rules' sessions of PostgreSQL."""


@dataclass
class Run:
    """What is recorded about a run: its parameters, what it read, what it found (None: it did not get that far)."""

    business_date: date
    window_days: int
    min_support: Decimal
    min_confidence: Decimal
    max_items: int | None
    lake: str
    lake_version: int
    started_at: datetime
    code_version: str
    max_drop: float
    """Against the current run, as a share; told, not recorded."""
    engine: str | None = None
    invoices: int | None = None
    baskets: int | None = None
    products: int | None = None
    itemsets: int | None = None
    rules: int | None = None
    conflicting: int | None = None
    """Invoices of which the lake holds copies with other content; told, not recorded."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase."""


def publish(connection: Connection, run: Run, rules: Rules, names: Mapping[str, str], runs_kept: int) -> int:
    """Write the run and its rules, make it the current one and delete runs beyond `runs_kept`; returns its id.

    One transaction: readers see either the previous run's rules or all of this one's. Raises KeptBackError, having
    changed nothing, if there are no rules, or fewer than (1 - run.max_drop) x those of the current run with the same
    thresholds.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("rules/lock"))
        cursor.execute(statement("rules/select_current"))
        current = cursor.fetchone()
        _check_drop(run, len(rules), current)
        run_id = _insert(cursor, run, RunStatus.PUBLISHED, None, current[0] if current else None)
        cursor.copy_expert(statement("rules/copy_rules"), _csv(run_id, rules, names))
        cursor.execute(statement("rules/clear_current"))
        cursor.execute(statement("rules/set_current"), {"run_id": run_id})
        cursor.execute(statement("rules/delete_old"), {"kept": runs_kept})
    return run_id


def record_kept_back(connection: Connection, run: Run, reason: str) -> int:
    """Write a run that a guard refused, without rules; the current run stays. Returns its id."""
    with connection, connection.cursor() as cursor:
        return _insert(cursor, run, RunStatus.KEPT_BACK, reason, None)


def roll_back(connection: Connection, run_id: int) -> None:
    """Make an earlier (or later) published run the current one. Raises RulesError if it is not there."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("rules/lock"))
        cursor.execute(statement("rules/select_status"), {"run_id": run_id})
        row = cursor.fetchone()
        if row is None:
            raise RulesError(f"there is no run {run_id}: `retail-mart runs` lists them")
        if row[0] != RunStatus.PUBLISHED:
            raise RulesError(f"run {run_id} was kept back and has no rules: choose a published one")
        cursor.execute(statement("rules/clear_current"))
        cursor.execute(statement("rules/set_current"), {"run_id": run_id})


def rows(connection: Connection, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All rows of one of the statements of `sql/rules.sql` that read."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement(f"rules/{name}"), parameters)
        return cursor.fetchall()


def _check_drop(run: Run, rules: int, current: tuple[Any, ...] | None) -> None:
    if rules == 0:
        raise KeptBackError(
            f"no rule has support {run.min_support} and confidence {run.min_confidence} in "
            f"{counted(run.baskets or 0, 'basket')}"
        )
    if current is None:
        return
    current_id, current_rules, *thresholds = current
    if thresholds != [run.min_support, run.min_confidence, run.max_items]:
        return  # other thresholds were asked for, so another number is expected
    if rules < (1 - run.max_drop) * current_rules:
        raise KeptBackError(
            f"{counted(rules, 'rule')}, but the current run {current_id} has {current_rules:,}: a drop of "
            f"{1 - rules / current_rules:.0%}, where {run.max_drop:.0%} is allowed. Is the lake complete? If the "
            "drop is expected, run again with a higher --max-drop"
        )


def _insert(cursor: Cursor, run: Run, status: RunStatus, reason: str | None, previous: int | None) -> int:
    values = vars(run) | {
        "status": status.value,
        "reason": reason,
        "previous_run_id": previous,
        "seconds": json.dumps(run.seconds),
    }
    cursor.execute(statement("rules/insert_run"), values)
    return int(one_row(cursor)[0])


def _csv(run_id: int, rules: Rules, names: Mapping[str, str]) -> io.StringIO:
    codes = rules.codes
    quoted_codes = [_quoted(code) for code in codes]
    item_names = [names[code] for code in codes]
    quoted_names = [_quoted(name) for name in item_names]
    # A rule is found by one of its antecedent's products: the one that leads to the fewest others.
    leads_to = Counter(item for antecedent in rules.antecedent for item in antecedent)
    text = io.StringIO()
    writer = csv.writer(text)
    measures = zip(
        rules.together.tolist(),
        rules.antecedent_count.tolist(),
        rules.consequent_count.tolist(),
        rules.support.tolist(),
        rules.confidence.tolist(),
        rules.lift.tolist(),
        rules.leverage.tolist(),
        (None if math.isnan(value) else value for value in rules.conviction.tolist()),
        rules.zhang.tolist(),
        strict=True,
    )
    sides = zip(rules.antecedent, rules.consequent.tolist(), measures, strict=True)
    for place, (antecedent, consequent, measured) in enumerate(sides, 1):
        writer.writerow(
            (
                run_id,
                place,
                "{" + ",".join([quoted_codes[i] for i in antecedent]) + "}",
                "{" + ",".join([quoted_names[i] for i in antecedent]) + "}",
                codes[consequent],
                item_names[consequent],
                codes[min(antecedent, key=lambda i: (leads_to[i], i))],
                *measured,
            )
        )
    text.seek(0)
    return text


def _quoted(element: str) -> str:
    """An element of a PostgreSQL array literal."""
    return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
