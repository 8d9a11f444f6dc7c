"""Spark Structured Streaming as most tutorials write to PostgreSQL: foreachBatch, collect, one upsert per row.

Invoice numbers are stored, so that a repeated batch counts once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg2
from pyspark.sql import DataFrame

from bench.peers.spark import EVENTS_AT_A_TIME, purchases, session
from sql import statement


def main(bootstrap: str, topic: str, dsn: str, folder: str) -> None:
    spark = session("row by row")
    events = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", EVENTS_AT_A_TIME)
        .load()
    )

    def upsert(batch: DataFrame, _batch_id: int) -> None:
        rows = batch.collect()
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            for row in rows:
                cursor.execute(
                    statement("bench/peer_insert_invoice"), (row.invoice, row.invoice_date, row.customer_id, row.cents)
                )
                if cursor.rowcount:
                    cursor.execute(
                        statement("bench/peer_upsert_customer"),
                        (row.customer_id, row.cents, row.invoice_date, row.timestamp),
                    )
        connection.close()

    query = (
        purchases(events)
        .writeStream.foreachBatch(upsert)
        .option("checkpointLocation", str(Path(folder, "checkpoint")))
        .start()
    )
    query.awaitTermination()


if __name__ == "__main__":
    main(*sys.argv[1:])
