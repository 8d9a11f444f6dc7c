"""Rejected: what the commands take and show of quarantined records."""

from __future__ import annotations

import re

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mart.quarantine import Count, Quarantined
from mart.reject_reason import MEANING

# What would move a terminal's cursor or ring its bell, or is no text at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def describe_list(topic: str, counts: list[Count], records: list[Quarantined]) -> RenderableType:
    """Counts and newest records, for a terminal."""
    if not counts:
        return Text(f"quarantine of topic {topic!r} is empty", "green")
    table = Table(
        "reason", "records", "newest", "state", "meaning", title=f"quarantine of {topic}", title_justify="left"
    )
    table.columns[1].justify = "right"
    for c in counts:
        table.add_row(
            c.reason, f"{c.records:,}", f"{c.newest_at:%Y-%m-%d %H:%M}", c.outcome or "waits", MEANING[c.reason]
        )
    newest_records = Table("record", "rejected", "reason", "detail", title="the newest", title_justify="left")
    for q in records:
        state = f" ({q.outcome})" if q.outcome else ""
        newest_records.add_row(
            q.coordinates, f"{q.rejected_at:%Y-%m-%d %H:%M:%S}", q.reason + state, Text(readable(q.detail.encode()))
        )
    return Group(table, newest_records)


def describe_record(topic: str, record: Quarantined) -> RenderableType:
    """One record with its value, for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_row("record", f"{topic} partition {record.partition} offset {record.offset}")
    table.add_row("topic id", record.topic_id)
    table.add_row("produced", f"{record.kafka_timestamp:%Y-%m-%d %H:%M:%S%z}")
    table.add_row("rejected", f"{record.rejected_at:%Y-%m-%d %H:%M:%S%z}")
    table.add_row("reason", f"{record.reason}: {MEANING[record.reason]}")
    table.add_row("detail", Text(readable(record.detail.encode())))
    table.add_row(
        "state", f"{record.outcome}, {record.settled_at:%Y-%m-%d %H:%M:%S%z}" if record.settled_at else "waits"
    )
    if record.raw is None:
        return Group(table, Text("no value", style="dim"))
    return Group(table, Text(f"value, {len(record.raw):,} bytes:", style="dim"), Text(readable(record.raw)))


def readable(value: bytes) -> str:
    """Bytes as text that no terminal obeys: what is not UTF-8 or a control character stands as \\x and its digits."""
    text = value.decode("utf-8", errors="backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
