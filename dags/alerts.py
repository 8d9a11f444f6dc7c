"""E-mail and Slack: when a task has failed for good, and when the DAG has recovered.

Nothing is sent where nothing is configured: e-mail needs ALERT_EMAIL_TO (addresses, comma between them) and the
connection AIRFLOW_CONN_SMTP_DEFAULT, Slack the connection AIRFLOW_CONN_SLACK_DEFAULT (its password is the webhook).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import Variable

# The DAG gives the macro business_date; `failure` is what remember_failure wrote.
_FAILED = "{{ dag.dag_id }} failed: {{ ti.task_id }}, business date {{ business_date(params, dag_run) }}"
_FAILED_TEXT = """\
What failed: task {{ ti.task_id }} of {{ dag.dag_id }}, try {{ ti.try_number }}, run {{ run_id }}
Business date: {{ business_date(params, dag_run) }}
Why: {{ exception | default("no exception was recorded, see the log", true) }}
Log: {{ ti.log_url }}
Repeat only this step: {{ task.command_line }}
Repeat the whole night: airflow dags trigger {{ dag.dag_id }} --conf '{"business_date": "{{ business_date(params, dag_run) }}"}'
"""  # noqa: E501
_RECOVERED = "{{ dag.dag_id }} has recovered, business date {{ business_date(params, dag_run) }}"
_RECOVERED_TEXT = """\
What recovered: {{ dag.dag_id }}, run {{ run_id }}, all its tasks
Business date: {{ business_date(params, dag_run) }}
What had failed: task {{ failure.task_id }}, business date {{ failure.business_date }}, run {{ failure.run_id }}
Log: {{ ti.log_url }}
"""
# What Slack wants escaped, and nothing else.
_SLACK_ESCAPED = "{% filter replace('&', '&amp;') | replace('<', '&lt;') | replace('>', '&gt;') %}%s{% endfilter %}"


def on_failure() -> list[Callable[[Any], None]]:
    """The on_failure_callback of every task: it is called after the last try."""
    return [*_notifiers(_FAILED, _FAILED_TEXT), remember_failure]


def on_success_of_the_last_task() -> list[Callable[[Any], None]]:
    """The on_success_callback of the DAG's last task: it tells of the first success after a failure."""
    return [*(_if_recovered(notify) for notify in _notifiers(_RECOVERED, _RECOVERED_TEXT)), forget_failure]


def remember_failure(context: Any) -> None:
    """Keep what failed in an Airflow variable, until the DAG succeeds: by this run, cleared, or by another one."""
    dag, run = context["dag"], context["dag_run"]
    failure = {
        "task_id": context["ti"].task_id,
        "business_date": dag.user_defined_macros["business_date"](context["params"], run),
        "run_id": run.run_id,
    }
    Variable.set(_name(context), failure, serialize_json=True)


def forget_failure(context: Any) -> None:
    """The next success is no recovery."""
    if _failure(context):
        Variable.delete(_name(context))


def _if_recovered(notify: Callable[[Any], None]) -> Callable[[Any], None]:
    def notify_if_recovered(context: Any) -> None:
        if failure := _failure(context):
            notify({**context, "failure": failure})

    return notify_if_recovered


def _failure(context: Any) -> dict[str, str] | None:
    return Variable.get(_name(context), default=None, deserialize_json=True)


def _name(context: Any) -> str:
    return f"{context['dag'].dag_id}_failure"


def _notifiers(title: str, text: str) -> list[Callable[[Any], None]]:
    configured: list[Callable[[Any], None]] = []
    if addresses := [address.strip() for address in os.environ.get("ALERT_EMAIL_TO", "").split(",") if address.strip()]:
        html = "<pre>{% filter escape %}" + text + "{% endfilter %}</pre>"
        configured.append(SmtpNotifier(to=addresses, subject=title, html_content=html))
    if os.environ.get("AIRFLOW_CONN_SLACK_DEFAULT"):
        configured.append(SlackWebhookNotifier(text=_SLACK_ESCAPED.replace("%s", f"*{title}*\n{text}")))
    return configured
