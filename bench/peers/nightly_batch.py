"""The nightly batch that such projects start with: CSV files → RFM and rules in Spark → both tables overwritten by
JDBC.

`python -m bench.peers.nightly_batch FOLDER DSN SUPPORT CONFIDENCE MAX_ITEMS`
"""

from __future__ import annotations

import sys

from pyspark.ml.fpm import FPGrowth
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from bench.peers.spark import overwrite, scored, session
from bench.rules import LIFT, with_names
from conf.line_rules import admin_codes
from sql import line_condition

_COLUMNS = {
    "InvoiceNo": "invoice",
    "Invoice": "invoice",
    "StockCode": "stock_code",
    "Description": "description",
    "Quantity": "quantity",
    "InvoiceDate": "invoice_date",
    "Price": "price",
    "UnitPrice": "price",
    "CustomerID": "customer_id",
    "Customer ID": "customer_id",
}


def main(folder: str, dsn: str, support: str, confidence: str, max_items: str) -> None:
    spark = session("nightly batch")
    raw = spark.read.csv(f"{folder}/*.csv*", header=True)
    lines = raw.withColumnsRenamed({theirs: ours for theirs, ours in _COLUMNS.items() if theirs in raw.columns}).select(
        "invoice",
        "stock_code",
        F.trim("description").alias("description"),
        F.col("quantity").cast("int").alias("quantity"),
        F.col("price").cast("decimal(18, 2)").alias("price"),
        F.min(F.col("invoice_date").cast("timestamp_ntz")).over(Window.partitionBy("invoice")).alias("invoice_date"),
        F.regexp_replace("customer_id", r"\.0+$", "").alias("customer_id"),
    )
    counting = lines.alias("line").where(line_condition("counting_line", admin_codes())).cache()
    overwrite(scored(_customers(counting)), dsn, "peer.overwritten")
    overwrite(_rules(counting, float(support), float(confidence), int(max_items)), dsn, "peer.overwritten_rule")
    spark.stop()


def _customers(counting: DataFrame) -> DataFrame:
    return (
        counting.where("customer_id IS NOT NULL")
        .groupBy("customer_id")
        .agg(
            F.count_distinct("invoice").alias("frequency"),
            F.sum(F.col("quantity") * F.col("price")).cast("decimal(38, 2)").alias("monetary"),
            F.max("invoice_date").alias("last_purchase"),
        )
    )


def _rules(counting: DataFrame, support: float, confidence: float, max_items: int) -> DataFrame:
    baskets = counting.groupBy("invoice").agg(F.collect_set("stock_code").alias("items")).where("size(items) >= 2")
    names = counting.groupBy("stock_code").agg(F.mode("description").alias("name")).cache()
    model = FPGrowth(itemsCol="items", minSupport=support, minConfidence=confidence, numPartitions=1).fit(
        baskets.cache()
    )
    rules = model.associationRules.where(F.col("lift") > LIFT).where(F.size("antecedent") < max_items)
    named = with_names(rules.withColumn("id", F.monotonically_increasing_id()).cache(), names)
    return named.select(
        "antecedent", "antecedent_names", "consequent", "consequent_name", "support", "confidence", "lift"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
