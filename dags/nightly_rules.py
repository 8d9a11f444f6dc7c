"""
### Nightly association rules

Each night, once yesterday is whole in the lake: compact the lake, recompute the rules, publish them, check them.
Every task is a command of the project that a person can run too; the task's log shows it.

A run by hand may name another **business date**; `newest` is the last one in the lake, for a replay of old files. A day
on which the shop was closed looks the same as a stream that has stalled: **allow an empty day** then.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, chain
from alerts import on_failure, on_success_of_the_last_task
from project_command import ProjectCommand

# `retail-mart airflow` sets it to now where the lake ends before yesterday: else the first run that the scheduler makes
# is that of last night, which waits for a day that will not come.
SINCE = os.environ.get("NIGHTLY_RULES_SINCE") or "2026-01-01"
SHOP_TIME_ZONE = os.environ.get("SHOP_TIME_ZONE") or "Asia/Jakarta"


def business_date(params: Any, dag_run: Any) -> str:
    """The param, else the day before the run in the shop's zone. A run by hand may have no logical date."""
    if params["business_date"]:
        return str(params["business_date"])
    run_at = dag_run.logical_date or dag_run.run_after
    return str(run_at.astimezone(ZoneInfo(SHOP_TIME_ZONE)).date() - timedelta(days=1))


THAT_DAY = ("--business-date", "{{ business_date(params, dag_run) }}")
EMPTY_OR_NOT = "{{ '--allow-empty' if params.allow_empty else '--no-allow-empty' }}"

with DAG(
    "nightly_rules",
    description="Lake → association rules → mart, every night at two.",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 2 * * *", timezone=SHOP_TIME_ZONE),
    start_date=pendulum.parse(SINCE, tz=SHOP_TIME_ZONE),
    catchup=False,
    max_active_runs=1,
    params={
        "business_date": Param(
            None,
            type=["null", "string"],
            pattern=r"^(newest|\d{4}-\d{2}-\d{2})$",
            title="Business date",
            description="YYYY-MM-DD, or newest: the last one in the lake. Empty: the day before the run, in the shop's "
            "time zone.",
        ),
        "allow_empty": Param(
            False,
            type="boolean",
            title="Allow an empty day",
            description="The shop was closed: it is right that the day has no invoices.",
        ),
    },
    default_args={
        "retries": 3,
        # The first delay is Airflow's own (core.default_task_retry_delay, 5 minutes), then twice the last one.
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
        "execution_timeout": timedelta(hours=1),
        "on_failure_callback": on_failure(),
    },
    user_defined_macros={"business_date": business_date},
    tags=["retail-mart"],
):
    chain(
        ProjectCommand(task_id="landed", arguments=["landed", *THAT_DAY, "--wait", "10m", EMPTY_OR_NOT]),
        ProjectCommand(task_id="compact", arguments=["compact"]),
        ProjectCommand(task_id="run_rules", arguments=["mine", *THAT_DAY]),
        ProjectCommand(task_id="check", arguments=["check", *THAT_DAY]),
        ProjectCommand(
            task_id="announce",
            arguments=["runs", "-n", "1"],
            outlets=[Asset("association_rules")],  # other DAGs may be scheduled on it
            on_success_callback=on_success_of_the_last_task(),
        ),
    )
