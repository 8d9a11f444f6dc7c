"""Alerts on looks made by hand: what fires, who is told of it when, in which words."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from conf.settings import Settings
from mart.locks import Blocker, LockWait
from mart.status import Observed
from operations.alerts import CONDITIONS, Alert, Notice, compose, due, judge
from tests.builders.files import ROOT
from tests.builders.looks import AT, LIMITS, MART_UNAVAILABLE, batches, disk, look, nightly, unusual

NEVER = Settings(
    alert_stale_seconds=0,
    alert_lag_records=0,
    alert_reject_percent=0,
    alert_nightly_hours=0,
    alert_disk_free_percent=0,
)


BROKER_UNAVAILABLE = look(broker_problem="timed out", lag=None, waiting=None, held=None)

BLOCKED = LockWait(AT, 12.4, "mart.invoice", "RowExclusiveLock", (Blocker(7, "anna", "DBeaver", None, None),))

WHAT_FIRES = [
    # (what is seen, what fires, what cannot be judged)
    (look(), "", ""),
    # stale: no batch for too long, and records have waited for as long
    (look(batches=batches(61), lag=5, waiting=5), "stream_stale", ""),
    (look(batches=batches(60), lag=5, waiting=5), "", ""),
    (look(batches=batches(3600), lag=5, waiting=0), "", ""),  # a quiet night, and an invoice that came just now
    (look(batches=batches(3600), lag=0, waiting=0), "", ""),
    (look(batches=batches(1), lag=900, waiting=900), "", ""),  # behind, but it moves
    (look(batches=batches(None), lag=5, waiting=5), "stream_stale", ""),  # the job never began
    (look(batches=batches(None), lag=0, waiting=0), "", ""),  # a mart made just now
    # a lock that somebody holds
    (look(blocked=BLOCKED), "stream_blocked", ""),
    # a transaction that a producer leaves open: in no lag, and the other partitions flow
    (look(held=3), "stream_held", ""),
    (look(held=0), "", ""),
    # lag
    (look(lag=1000), "", ""),
    (look(lag=1001), "lag_high", ""),
    (look(lag=5000, waiting=5000, batches=batches(300)), "stream_stale lag_high", ""),
    # rejects: a share of the window's records, and at least 5 of them
    (look(batches=batches(records=1000, rejected=50)), "", ""),
    (look(batches=batches(records=1000, rejected=51)), "rejects_high", ""),
    (look(batches=batches(records=4, rejected=4)), "", ""),
    (look(batches=batches(records=5, rejected=5)), "rejects_high", ""),
    (look(batches=batches(records=0, rejected=0)), "", ""),
    # a fault of this software is told of from the first record on
    (look(failed=1), "records_failed", ""),
    (look(failed=0), "", ""),
    # a till whose clock is wrong
    (look(ahead=1), "invoices_ahead", ""),
    (look(wrong_scores=1), "scores_wrong", ""),
    (look(ahead=0), "", ""),
    # the nightly job
    (look(nightly=nightly(26.0)), "", ""),
    (look(nightly=nightly(26.1)), "nightly_late", ""),
    (look(nightly=nightly(5.0, "kept back", "no baskets")), "nightly_failed", ""),
    (look(nightly=nightly(30.0, "kept back", "no baskets")), "nightly_failed nightly_late", ""),
    (look(nightly=nightly(30.0, None, published=False)), "nightly_late", ""),
    # disks
    (look(disks=(disk(50), disk(9, "checkpoint"))), "disk_low", ""),
    (look(disks=(disk(10),)), "", ""),
    (look(disks=()), "", ""),  # the lake is a URL
    # a server is unavailable: that is told, and what it alone knows is unknown
    (
        MART_UNAVAILABLE,
        "mart_unreachable",
        "stream_stale stream_blocked stream_held lag_high rejects_high records_failed invoices_ahead scores_wrong "
        "nightly_failed nightly_late",
    ),
    (BROKER_UNAVAILABLE, "broker_unreachable", "stream_stale stream_held lag_high"),
    (
        Observed("timed out", "no route", disks=(disk(1),)),
        "broker_unreachable mart_unreachable disk_low",
        "stream_stale stream_blocked stream_held lag_high rejects_high records_failed invoices_ahead scores_wrong "
        "nightly_failed nightly_late",
    ),
]


@pytest.mark.parametrize(("seen", "fires", "unknown"), WHAT_FIRES, ids=unusual)
def test_what_fires(seen, fires, unknown):
    judged = judge(seen, LIMITS)
    assert list(judged.firing) == fires.split()
    assert judged.unknown == set(unknown.split())
    assert all(judged.firing.values())  # each says what was found


def test_zero_switches_an_alert_off():
    worst = look(
        batches=batches(9999, 10, 10),
        blocked=BLOCKED,
        lag=9**9,
        waiting=9**9,
        held=1,
        nightly=nightly(999, "kept back"),
        disks=(disk(0),),
    )
    assert list(judge(worst, NEVER).firing) == [Alert.STREAM_BLOCKED]  # it has no limit to set
    assert set(judge(worst, LIMITS).firing) == set(Alert) - {
        Alert.BROKER_UNREACHABLE,
        Alert.MART_UNREACHABLE,
        Alert.RECORDS_FAILED,  # has no limit
        Alert.INVOICES_AHEAD,  # nor has this one
        Alert.SCORES_WRONG,  # nor this one
    }


@pytest.mark.parametrize(
    ("alert", "still", "over"),
    [
        (Alert.LAG_HIGH, look(lag=801), look(lag=800)),
        (Alert.REJECTS_HIGH, look(batches=batches(rejected=41)), look(batches=batches(rejected=40))),
        (Alert.DISK_LOW, look(disks=(disk(12),)), look(disks=(disk(12.5),))),
    ],
    ids=unusual,
)
def test_what_fires_is_over_a_fifth_below_its_limit(alert, still, over):
    """So that a value about its limit does not come and go."""
    assert list(judge(still, LIMITS, going_on=[alert]).firing) == [alert]
    assert judge(still, LIMITS).firing == {}
    assert judge(over, LIMITS, going_on=[alert]).firing == {}


LATER = AT + timedelta(hours=1)
STALE, LAG = Alert.STREAM_STALE, Alert.LAG_HIGH
WHO_IS_TOLD = [
    # (firing, unknown, told before, notices: channel alert firing)
    ({}, [], {}, []),
    ({STALE: AT}, [], {}, ["log stale fires", "email stale fires"]),
    ({STALE: AT}, [], {"log": {STALE: AT}}, ["email stale fires"]),  # e-mail failed at the look before
    ({STALE: AT}, [], {"log": {STALE: AT}, "email": {STALE: AT}}, []),  # never twice
    ({STALE: AT, LAG: AT}, [], {"log": {STALE: AT}, "email": {STALE: AT}}, ["log lag fires", "email lag fires"]),
    ({}, [], {"log": {STALE: AT}, "email": {STALE: AT}}, ["log stale over", "email stale over"]),
    ({}, [], {"log": {STALE: AT}}, ["log stale over"]),  # who did not hear of it hears of no end
    ({}, [], {"slack": {STALE: AT}}, []),  # a channel that is configured no more
    ({STALE: LATER}, [], {"log": {STALE: AT}, "email": {}}, ["email stale fires"]),  # its end was never told
    ({STALE: AT}, [STALE], {"log": {STALE: AT}, "email": {}}, []),  # unknown: nothing begins, nothing ends
    ({}, [STALE], {"log": {STALE: AT}}, []),
]


@pytest.mark.parametrize(("firing", "unknown", "told", "expected"), WHO_IS_TOLD)
def test_who_is_told(firing, unknown, told, expected):
    notices = due(firing, unknown, told, ["log", "email"])
    short = {STALE: "stale", LAG: "lag"}
    assert [f"{n.channel} {short[n.alert]} {'fires' if n.firing else 'over'}" for n in notices] == expected


def test_words_name_the_finding_the_fix_and_the_place():
    found = judge(look(batches=batches(132), lag=4120, waiting=4000), LIMITS).firing[STALE]
    message = compose(Notice("email", STALE, True, AT), found, LATER, "topic invoices on kafka:9092, from shop1")
    assert message.subject == "retail-mart: the stream has stalled"
    assert message.text.splitlines() == [
        "no batch for 132 s; 4,000 records not applied for longer than 60 s",
        "Since: 2026-03-11 12:00:00 UTC",
        f"What to do: {CONDITIONS[STALE].advice}",
        "Alert: stream_stale (docs/operations.md)",
        "Watched: topic invoices on kafka:9092, from shop1",
    ]
    over = compose(Notice("email", STALE, False, AT), "", LATER + timedelta(minutes=5), "here")
    assert over.subject == "retail-mart: resolved: the stream has stalled"
    assert over.text.startswith("Resolved after 1 h 5 min: the stream has stalled.\nSince: 2026-03-11 12:00:00 UTC\n")
    assert message.message_id != over.message_id
    again = compose(Notice("slack", STALE, True, AT), "other words", LATER, "there")
    assert again.message_id == message.message_id  # the same notice
    assert re.fullmatch(r"[\w.]+", message.message_id)


def test_a_lock_is_told_with_who_holds_it():
    found = judge(look(blocked=BLOCKED), LIMITS).firing[Alert.STREAM_BLOCKED]
    assert found == "the job has waited 12 s for a lock on mart.invoice, held by pid 7 of anna (DBeaver)"


def test_every_alert_has_its_words_and_its_line_in_the_docs():
    assert list(CONDITIONS) == list(Alert)
    assert len({condition.title for condition in CONDITIONS.values()}) == len(Alert)
    section = (ROOT / "docs" / "operations.md").read_text().split("## Alerts and metrics")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \| .+ \|$", section, re.MULTILINE))
    assert list(rows) == list(Alert)
    for setting, default in re.findall(r"`(ALERT_\w+)` \(([\d,]+)\)", section):
        assert Settings.model_fields[setting.lower()].default == float(default.replace(",", ""))
    assert set(re.findall(r"ALERT_\w+", " ".join(rows.values()))) == {
        f"ALERT_{name}" for name in ("STALE_SECONDS", "LAG_RECORDS", "REJECT_PERCENT", "NIGHTLY_HOURS")
    } | {"ALERT_DISK_FREE_PERCENT"}
