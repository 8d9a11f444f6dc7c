"""Quix Streams: a StreamingDataFrame with state (RocksDB, changelog topics) and its own PostgreSQL sink.

One process, as its documentation begins; more of them would share the partitions. `commit_interval` is when its sinks
are flushed, 5 s by default: too long for a mart that is to be current. Exactly once: offsets and state in one Kafka
transaction; a row that is written again says the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from psycopg2.extensions import parse_dsn
from quixstreams import Application, State
from quixstreams.sinks.community.postgresql import PostgreSQLSink

from bench.peers.invoice import Totals, purchase

_COMMIT_SECONDS = 0.5


def customer(event: dict[str, Any], _key: Any, timestamp: int, _headers: Any, state: State) -> dict[str, Any] | None:
    """The customer's row after this invoice; None: it changes no customer."""
    bought = purchase(event)
    if bought is None:
        return None
    totals = Totals(*state.get("totals") or ()).plus(bought, timestamp)
    state.set("totals", tuple(totals))
    columns = ("customer_id", "frequency", "cents", "last_purchase", "newest_record")
    return dict(zip(columns, totals.row(bought.customer_id), strict=True))


def main(bootstrap: str, topic: str, dsn: str, folder: str) -> None:
    app = Application(
        bootstrap,
        consumer_group=f"quix-{topic}-{Path(folder).name}",
        auto_offset_reset="earliest",
        commit_interval=_COMMIT_SECONDS,
        processing_guarantee="exactly-once",
        state_dir=Path(folder, "state"),
        loglevel="WARNING",
    )
    sink = PostgreSQLSink(
        **parse_dsn(dsn),
        schema_name="peer",
        table_name="customer",
        schema_auto_update=False,
        primary_key_columns="customer_id",
        upsert_on_primary_key=True,
        include_metadata=False,
    )
    customers = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="json"))
    customers = customers.apply(customer, stateful=True, metadata=True)
    customers = customers[customers.apply(lambda row: row is not None)]
    customers.sink(sink)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
