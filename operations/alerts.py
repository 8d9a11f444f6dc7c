"""Alerts: which ones fire given what was observed, whom to notify, and in which words. No I/O.

CONDITIONS is the only list of them: `watch` uses it, and deploy/prometheus/alerts.yml is generated from it
(operations/prometheus_rules.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from rich.filesize import decimal

from conf.counted import counted
from conf.settings import Settings
from mart.locks import PATIENCE_SECONDS
from mart.status import Observed, RunStatus

FEWEST_REJECTED = 5  # one bad record in a quiet hour is no share
_EASED = 0.8  # what fires is over only when it is a fifth better than its limit, lest it comes and goes


class Alert(StrEnum):
    """One member per alert; docs/operations.md has a line for each: condition, setting, what to do."""

    BROKER_UNREACHABLE = "broker_unreachable"
    MART_UNREACHABLE = "mart_unreachable"
    STREAM_STALE = "stream_stale"
    STREAM_BLOCKED = "stream_blocked"
    STREAM_HELD = "stream_held"
    LAG_HIGH = "lag_high"
    REJECTS_HIGH = "rejects_high"
    RECORDS_FAILED = "records_failed"
    INVOICES_AHEAD = "invoices_ahead"
    SCORES_WRONG = "scores_wrong"
    NIGHTLY_FAILED = "nightly_failed"
    NIGHTLY_LATE = "nightly_late"
    DISK_LOW = "disk_low"


@dataclass(frozen=True)
class Condition:
    """Everything about an alert: its wording, which servers must answer to judge it (if one of them is unavailable, the
    alert is unknown), the setting with its limit (0: never), and how Prometheus sees it: PromQL with placeholders for
    the limits, how long it must hold, its severity, and what `$value` means. `_findings` evaluates the same conditions
    on a look."""

    title: str
    advice: str
    asks: tuple[Literal["mart", "broker"], ...]
    limit: str | None
    severity: Literal["critical", "warning"]
    expr: str
    found: str
    holds: str | None = None


CONDITIONS: Mapping[Alert, Condition] = {
    Alert.BROKER_UNREACHABLE: Condition(
        title="the topic cannot be read",
        advice="See the broker's log, and the KAFKA_… settings. The job goes on by itself when it is back.",
        asks=(),
        limit=None,
        severity="critical",
        expr="max(mart_kafka_up) == 0",
        holds="1m",
        found="The streaming job cannot learn where the topic ends.",
    ),
    Alert.MART_UNREACHABLE: Condition(
        title="the mart cannot be read",
        advice="See PostgreSQL's log, and the MART_… settings. The job goes on by itself when it is back.",
        asks=(),
        limit=None,
        severity="critical",
        expr="max(mart_postgresql_up) == 0",
        holds="1m",
        found="The streaming job's questions to PostgreSQL fail.",
    ),
    Alert.STREAM_STALE: Condition(
        title="the stream has stalled",
        advice="See the log of `retail-mart run`, then start it again: nothing is lost.",
        asks=("mart", "broker"),
        limit="alert_stale_seconds",
        severity="critical",
        expr="sum(mart_lag_records) > 0 and (time() - max(mart_last_batch_timestamp_seconds) > {alert_stale_seconds:g} "
        "or absent(mart_last_batch_timestamp_seconds))",
        holds="30s",
        found="No batch for more than {alert_stale_seconds:g} s; records not applied: {value}.",
    ),
    Alert.STREAM_BLOCKED: Condition(
        title="the stream waits for a lock",
        advice="Wait for that transaction, or end it: `SELECT pg_terminate_backend(PID)`. The job goes on.",
        asks=("mart",),
        limit=None,
        severity="warning",
        expr=f"max(mart_lock_wait_seconds) > {PATIENCE_SECONDS:g}",
        found="For {value} s; the job's log says who holds it.",
    ),
    Alert.STREAM_HELD: Condition(
        title="an open transaction of a producer holds the stream back",
        advice="Kafka's `kafka-transactions.sh` (`find-hanging`, or `list` and `describe`) names it: let that producer "
        "end, or `abort` it. The job goes on by itself, in order; nothing is lost.",
        asks=("mart", "broker"),
        limit="alert_stale_seconds",
        severity="warning",
        expr="max(mart_open_transaction_seconds) > {alert_stale_seconds:g}",
        found="For {value} s.",
    ),
    Alert.LAG_HIGH: Condition(
        title="the stream is far behind",
        advice="Is it catching up? If not: which phase of a batch is slow (`ms` in the log), is the machine busy?",
        asks=("mart", "broker"),
        limit="alert_lag_records",
        severity="warning",
        expr="sum(mart_lag_records) > {alert_lag_records}",
        holds="1m",
        found="Records not applied: {value}.",
    ),
    Alert.REJECTS_HIGH: Condition(
        title="many records are quarantined",
        advice="`retail-mart rejected list` says why; after a fix `rejected redrive`.",
        asks=("mart",),
        limit="alert_reject_percent",
        severity="warning",
        expr="100 * sum(increase(mart_rejected_total[{alert_reject_minutes}m])) "
        "/ (sum(increase(mart_rejected_total[{alert_reject_minutes}m])) "
        "+ sum(increase(mart_invoices_total[{alert_reject_minutes}m])) "
        "+ sum(increase(mart_duplicates_total[{alert_reject_minutes}m]))) > {alert_reject_percent:g} "
        f"and sum(increase(mart_rejected_total[{{alert_reject_minutes}}m])) >= {FEWEST_REJECTED}",
        found="{tenths} % of the records of the last {alert_reject_minutes} minutes.",
    ),
    Alert.RECORDS_FAILED: Condition(
        title="records failed in an unforeseen way",
        advice="This is a bug: `retail-mart rejected list --reason internal_error` shows the records; please report "
        "it. After an update `rejected redrive` applies them.",
        asks=("mart",),
        limit=None,
        severity="critical",
        expr='sum(increase(mart_rejected_total{{reason="internal_error"}}[10m])) > 0',
        found="In the last 10 minutes, in quarantine as internal_error.",
    ),
    Alert.INVOICES_AHEAD: Condition(
        title="invoices are dated ahead of the clock",
        advice="Correct the clock of that till, or of PostgreSQL's machine: `SELECT clock_limit FROM mart.as_of`. "
        "These invoices count; the as-of date follows when their time has come.",
        asks=("mart",),
        limit=None,
        severity="warning",
        expr="sum(increase(mart_invoices_ahead_total[10m])) > 0",
        found="In the last 10 minutes, by more than a day.",
    ),
    Alert.SCORES_WRONG: Condition(
        title="scores are wrong",
        advice="This is a bug: `retail-mart verify --repair` corrects them; please report it with the job's log.",
        asks=("mart",),
        limit=None,
        severity="critical",
        expr="max(mart_scores_wrong) > 0",
        found="Scores, cuts and totals that differ from a full ntile: {value}.",
    ),
    Alert.NIGHTLY_FAILED: Condition(
        title="the nightly rules were kept back",
        advice="The previous rules stay current. See the reason, then run `retail-mart mine` again.",
        asks=("mart",),
        limit="alert_nightly_hours",
        severity="warning",
        expr="max(mart_nightly_kept_back) == 1",
        found="A guard refused the newest run.",
    ),
    Alert.NIGHTLY_LATE: Condition(
        title="the nightly rules are late",
        advice="See Airflow's DAG nightly_rules and its log, or run `retail-mart mine`.",
        asks=("mart",),
        limit="alert_nightly_hours",
        severity="warning",
        expr="(time() - max(mart_nightly_published_timestamp_seconds)) / 3600 > {alert_nightly_hours:g}",
        found="None were published for {tenths} hours.",
    ),
    Alert.DISK_LOW: Condition(
        title="a disk is nearly full",
        advice="`retail-mart compact` deletes the lake's old files; otherwise use a larger disk.",
        asks=(),
        limit="alert_disk_free_percent",
        severity="critical",
        expr="100 * min by (folder) (mart_disk_free_bytes / mart_disk_size_bytes) < {alert_disk_free_percent:g}",
        holds="1m",
        found="{tenths} % free where the {folder} is.",
    ),
}


@dataclass(frozen=True)
class Judgement:
    """What fires, with what was found; and what could not be judged because a server did not answer."""

    firing: Mapping[Alert, str]
    unknown: frozenset[Alert]


@dataclass(frozen=True)
class Notice:
    """One notification for one channel: an alert fires (since when), or one that fired since then is resolved."""

    channel: str
    alert: Alert
    firing: bool
    since: datetime


@dataclass(frozen=True)
class Message:
    """What is sent. The same notice has the same id, however often it is sent."""

    message_id: str
    subject: str
    text: str
    firing: bool


def judge(observed: Observed, settings: Settings, going_on: Collection[Alert] = ()) -> Judgement:
    """Compare a look with the limits in the settings (ALERT_…; 0: that alert never fires).

    An alert in `going_on` fired at the previous look; it is resolved once it is a fifth below its limit.
    """
    unavailable = {"mart"} if observed.mart_problem else set()
    unavailable |= {"broker"} if observed.broker_problem else set()
    found = dict(_findings(observed, settings, {alert: _EASED if alert in going_on else 1.0 for alert in Alert}))
    unknown = frozenset(alert for alert, condition in CONDITIONS.items() if unavailable.intersection(condition.asks))
    return Judgement({alert: found[alert] for alert in Alert if alert in found}, unknown)


def due(
    firing: Mapping[Alert, datetime],
    unknown: Collection[Alert],
    told: Mapping[str, Mapping[Alert, datetime]],
    channels: Iterable[str],
) -> list[Notice]:
    """What each channel has not been told yet. `firing`: since when; `told`: what each channel believes to be firing.

    So a channel is told once that an alert fires and once that it is resolved, and never that one is resolved that it
    was not told of. Unknown alerts stay as they were told.
    """
    notices = []
    for channel in channels:
        believed = told.get(channel, {})
        fires = [Notice(channel, a, True, since) for a, since in firing.items() if a not in believed]
        over = [Notice(channel, a, False, since) for a, since in believed.items() if a not in firing]
        notices += [notice for notice in (*fires, *over) if notice.alert not in unknown]
    return notices


def compose(notice: Notice, found: str, now: datetime, where: str) -> Message:
    """The wording of a notice. `found`: what was observed; `where`: what is watched, and from which machine."""
    title = CONDITIONS[notice.alert].title
    since = f"{notice.since:%Y-%m-%d %H:%M:%S %Z}"
    if notice.firing:
        subject = f"retail-mart: {title}"
        lines = [found, f"Since: {since}", f"What to do: {CONDITIONS[notice.alert].advice}"]
    else:
        subject = f"retail-mart: resolved: {title}"
        lines = [f"Resolved after {_duration(now - notice.since)}: {title}.", f"Since: {since}"]
    lines += [f"Alert: {notice.alert} (docs/operations.md)", f"Watched: {where}"]
    state = "firing" if notice.firing else "over"
    message_id = f"{notice.alert}.{notice.since:%Y%m%dT%H%M%S%f}.{state}"
    return Message(message_id, subject, "\n".join(lines) + "\n", notice.firing)


def _findings(observed: Observed, settings: Settings, ease: Mapping[Alert, float]) -> Iterator[tuple[Alert, str]]:
    if observed.broker_problem:
        yield Alert.BROKER_UNREACHABLE, observed.broker_problem
    if observed.mart_problem:
        yield Alert.MART_UNREACHABLE, observed.mart_problem
    if observed.blocked:
        yield Alert.STREAM_BLOCKED, f"the job has waited {observed.blocked}"
    yield from _of_the_stream(observed, settings, ease)
    if observed.failed:
        yield Alert.RECORDS_FAILED, f"{counted(observed.failed, 'record')} in quarantine as internal_error"
    if observed.ahead:
        yield (
            Alert.INVOICES_AHEAD,
            f"{counted(observed.ahead, 'invoice')} dated later than PostgreSQL's clock by more than a day",
        )
    if observed.wrong_scores:
        yield (
            Alert.SCORES_WRONG,
            f"scores, cuts and totals that differ from a full ntile: {observed.wrong_scores:,}",
        )
    yield from _of_the_night(observed, settings)
    low = [
        f"{disk.folder} ({disk.path}): {decimal(disk.free_bytes)} of {decimal(disk.size_bytes)} free"
        for disk in observed.disks
        if disk.free_percent < settings.alert_disk_free_percent / ease[Alert.DISK_LOW]
    ]
    if low and settings.alert_disk_free_percent:
        yield Alert.DISK_LOW, f"{'; '.join(low)}; the limit is {settings.alert_disk_free_percent:g} %"


def _of_the_stream(observed: Observed, settings: Settings, ease: Mapping[Alert, float]) -> Iterator[tuple[Alert, str]]:
    batches, limit = observed.batches, settings.alert_stale_seconds
    if batches is None:
        return
    quiet = batches.since_seconds is None or batches.since_seconds > limit
    if limit and observed.waiting and quiet:
        last = "no batch yet" if batches.since_seconds is None else f"no batch for {batches.since_seconds:,.0f} s"
        yield (
            Alert.STREAM_STALE,
            f"{last}; {counted(observed.waiting, 'record')} not applied for longer than {limit:g} s",
        )
    if limit and observed.held:
        yield (
            Alert.STREAM_HELD,
            f"{counted(observed.held, 'record')} for longer than {limit:g} s in or behind a transaction that a "
            "producer has not ended; they are in no lag",
        )
    records = settings.alert_lag_records
    if records and observed.lag is not None and observed.lag > records * ease[Alert.LAG_HIGH]:
        yield Alert.LAG_HIGH, f"{counted(observed.lag, 'record')} not applied; the limit is {records:,}"
    percent = settings.alert_reject_percent
    share = 100 * batches.rejected / batches.records if batches.records else 0.0
    if percent and batches.rejected >= FEWEST_REJECTED and share > percent * ease[Alert.REJECTS_HIGH]:
        yield (
            Alert.REJECTS_HIGH,
            f"{batches.rejected:,} of {counted(batches.records, 'record')} ({share:.1f} %) of the last "
            f"{counted(settings.alert_reject_minutes, 'minute')} quarantined; the limit is {percent:g} %",
        )


def _of_the_night(observed: Observed, settings: Settings) -> Iterator[tuple[Alert, str]]:
    nightly, hours = observed.nightly, settings.alert_nightly_hours
    if nightly is None or not hours:
        return
    if nightly.status == RunStatus.KEPT_BACK:
        yield Alert.NIGHTLY_FAILED, f"the run for {nightly.business_date} was kept back: {nightly.reason}"
    if nightly.waiting_hours > hours:
        last = "no rules were ever published" if nightly.published_at is None else "no rules were published"
        yield Alert.NIGHTLY_LATE, f"{last} for {nightly.waiting_hours:,.1f} hours; the limit is {hours:g}"


def _duration(passed: timedelta) -> str:
    minutes, seconds = divmod(round(passed.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
