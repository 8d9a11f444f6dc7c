"""Spark in one batch, as a nightly job does it: read the whole topic, aggregate, ntile, overwrite the table by JDBC."""

from __future__ import annotations

import sys

from pyspark.sql import functions as F  # noqa: N812

from bench.peers.spark import overwrite, purchases, scored, session


def main(bootstrap: str, topic: str, dsn: str, _folder: str) -> None:
    spark = session("overwrite")
    events = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("endingOffsets", "latest")
        .load()
    )
    customers = (
        purchases(events)
        .groupBy("customer_id")
        .agg(
            F.count_distinct("invoice").alias("frequency"),
            (F.sum("cents").cast("decimal(38, 2)") / 100).cast("decimal(38, 2)").alias("monetary"),
            F.max("invoice_date").alias("last_purchase"),
        )
    )
    overwrite(scored(customers), dsn, "peer.overwritten")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
