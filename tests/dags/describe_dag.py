"""Run by Airflow's Python: what Airflow sees in the DAG folder, as one line of JSON."""

import json
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

from airflow.dag_processing.dagbag import BundleDagBag

folder = Path(sys.argv[1])
bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
dag = bag.dags["nightly_rules"]


def callback_names(callbacks):
    return [getattr(callback, "__name__", type(callback).__name__) for callback in callbacks]


def business_date(param, logical_date, run_after=None):
    run = SimpleNamespace(
        logical_date=logical_date and datetime.fromisoformat(logical_date),
        run_after=run_after and datetime.fromisoformat(run_after),
    )
    return dag.user_defined_macros["business_date"]({"business_date": param}, run)


description = {
    "import_errors": bag.import_errors,
    "warnings": bag.captured_warnings,
    "dags": sorted(bag.dags),
    "schedule": dag.timetable.expression,
    "time_zone": str(dag.timetable.timezone),
    "dag_time_zone": str(dag.timezone),
    "catchup": dag.catchup,
    "max_active_runs": dag.max_active_runs,
    "params": {name: dag.params.get_param(name).dump() for name in dag.params},
    "tasks": {
        task.task_id: {
            "arguments": task.arguments,
            "after": sorted(task.upstream_task_ids),
            "retries": task.retries,
            "backoff": task.retry_exponential_backoff,
            "first_delay": task.retry_delay.total_seconds(),
            "longest_delay": task.max_retry_delay.total_seconds(),
            "timeout": task.execution_timeout.total_seconds(),
            "on_failure": callback_names(task.on_failure_callback),
            "on_success": callback_names(task.on_success_callback),
            "outlets": [asset.name for asset in task.outlets],
        }
        for task in dag.topological_sort()
    },
    "business_dates": [business_date(*case) for case in json.loads(sys.argv[2])],
}
print(json.dumps(description, default=str))
