"""Bytewax: Kafka → stateful_map by customer → a sink of our own (it has none for PostgreSQL) with execute_values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import bytewax.operators as op
import psycopg2
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main
from psycopg2.extras import execute_values

from bench.peers.invoice import Purchase, Totals, read_purchase
from sql import statement

_MESSAGES_AT_A_TIME = 10_000


class Customers(StatelessSinkPartition[tuple[str, Totals]]):
    """Writes the newest row of each customer of a batch, in one transaction."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg2.connect(dsn)

    def write_batch(self, items: Sequence[tuple[str, Totals]]) -> None:
        rows = [totals.row(customer_id) for customer_id, totals in dict(items).items()]
        with self._connection, self._connection.cursor() as cursor:
            execute_values(cursor, statement("bench/peer_set_customers"), rows, page_size=_MESSAGES_AT_A_TIME)

    def close(self) -> None:
        self._connection.close()


class CustomerSink(DynamicSink[tuple[str, Totals]]):
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Customers:
        return Customers(self._dsn)


def keyed(message: Any) -> tuple[str, tuple[Purchase, int]] | None:
    bought = read_purchase(message.value)
    return None if bought is None else (bought.customer_id, (bought, message.timestamp[1]))


def total(before: Totals | None, change: tuple[Purchase, int]) -> tuple[Totals, Totals]:
    after = (before or Totals()).plus(*change)
    return after, after


def main(bootstrap: str, topic: str, dsn: str, _folder: str) -> None:
    flow = Dataflow("customers")
    messages = kop.input("kafka", flow, brokers=[bootstrap], topics=[topic], batch_size=_MESSAGES_AT_A_TIME)
    purchases = op.filter_map("purchase", messages.oks, keyed)
    op.output("mart", op.stateful_map("total", purchases, total), CustomerSink(dsn))
    cluster_main(flow, [], 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
