"""Rejected: what the commands accept and show of quarantined records."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.terminal import Table, number, prose, readable
from mart.quarantine import Count, Quarantined
from mart.reject_reason import MEANING

_OPEN = "open"


def describe_list(topic: str, counts: list[Count], records: list[Quarantined]) -> RenderableType:
    """Counts and newest records, for a terminal."""
    if not counts:
        return Text(f"quarantine of topic {topic!r} is empty", "green")
    table = Table(
        "reason", number("records"), prose("newest"), prose("state"), prose("meaning"), title=f"Quarantine of {topic}"
    )
    for c in counts:
        table.add(c.reason, f"{c.records:,}", f"{c.newest_at:%Y-%m-%d %H:%M}", c.outcome or _OPEN, MEANING[c.reason])
    newest_records = Table("record", prose("quarantined"), prose("reason"), prose("detail"), title="The newest")
    for q in records:
        state = f" ({q.outcome})" if q.outcome else ""
        newest_records.add(q.coordinates, f"{q.rejected_at:%Y-%m-%d %H:%M:%S}", q.reason + state, q.detail)
    return Group(table, newest_records)


def describe_record(topic: str, record: Quarantined) -> RenderableType:
    """One record with its value, for a terminal."""
    table = Table("what", prose("found"), headed=False)
    table.add("record", f"topic {topic}, partition {record.partition}, offset {record.offset}")
    table.add("topic id", record.topic_id)
    table.add("produced", f"{record.kafka_timestamp:%Y-%m-%d %H:%M:%S%z}")
    table.add("quarantined", f"{record.rejected_at:%Y-%m-%d %H:%M:%S%z}")
    table.add("reason", f"{record.reason}: {MEANING[record.reason]}")
    table.add("detail", record.detail)
    table.add("state", f"{record.outcome}, {record.settled_at:%Y-%m-%d %H:%M:%S%z}" if record.settled_at else _OPEN)
    if record.raw is None:
        return Group(table, Text("no value", style="dim"))
    return Group(table, Text(f"value, {counted(len(record.raw), 'byte')}:", style="dim"), Text(readable(record.raw)))
