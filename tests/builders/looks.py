"""What `watch` may see."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from conf.settings import Settings
from mart.status import Batches, Disk, Nightly, Observed
from tests.builders.case_ids import case_id

AT = datetime(2026, 3, 11, 12, tzinfo=UTC)
LIMITS = Settings(
    alert_stale_seconds=60,
    alert_lag_records=1000,
    alert_reject_percent=5,
    alert_reject_minutes=10,
    alert_nightly_hours=26,
    alert_disk_free_percent=10,
)


def batches(since=1.0, records=1000, rejected=0):
    return Batches(None if since is None else AT, since, records, rejected)


def nightly(hours=5.0, status="published", reason=None, published=True):
    return Nightly(status, reason, date(2026, 3, 10), AT, AT if published else None, AT, hours)


def disk(free_percent, folder="lake"):
    return Disk(folder, Path("/data"), free_percent * 1000, 100_000)


def look(**what):
    fine = {
        "batches": batches(),
        "nightly": nightly(),
        "lag": 0,
        "waiting": 0,
        "held": 0,
        "failed": 0,
        "disks": (disk(50),),
    }
    return Observed(**{**fine, **what})


MART_UNAVAILABLE = Observed(mart_problem="no route to host", disks=(disk(50),))


def unusual(seen: object, usual: object = None) -> str | None:
    """The id of a case: what is seen that is not as usual."""
    if not is_dataclass(seen):
        return None
    usual = usual or look()
    found = []
    for name in (field.name for field in fields(seen)):
        one, other = getattr(seen, name), getattr(usual, name)
        if one != other:
            is_alike = is_dataclass(one) and type(one) is type(other)
            found.append(f"{name}: {unusual(one, other)}" if is_alike else f"{name} {case_id(one)}")
    return ", ".join(found) or "all as usual"
