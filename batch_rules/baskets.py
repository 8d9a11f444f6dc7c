"""Baskets: the lake's invoices of a window → what was bought together, and what each product is called.

counting_line in `sql/spark.sql` decides which lines count; the tests check it against streaming.clean, which has the
same rules.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from conf.line_rules import admin_codes
from sql import line_condition

# Which copy of an invoice is the invoice, where it was landed more than once: the one that Kafka took first.
_LANDED = ("kafka_timestamp", "partition", "offset")


def invoices_of(lake: DataFrame, after: date, until: date) -> DataFrame:
    """One row per invoice (invoice, invoice_date, lines) whose business date is in (after, until].

    A number that was landed more than once counts once, with the content and the date of its earliest copy: if that one
    is outside the window, so is the invoice. Reads only the lines of the window's partitions.
    """
    inside = (F.col("business_date") > F.lit(after)) & (F.col("business_date") <= F.lit(until))
    landed = F.struct(*_LANDED)
    earliest = (
        lake.where(inside)
        .groupBy("invoice")
        .agg(F.min_by(F.struct(landed.alias("landed"), "invoice_date", "lines"), landed).alias("copy"))
    )
    elsewhere = lake.where(~inside).select(F.col("invoice").alias("other"), landed.alias("other_landed"))
    return earliest.join(
        elsewhere, (F.col("invoice") == F.col("other")) & (F.col("other_landed") < F.col("copy.landed")), "left_anti"
    ).select("invoice", "copy.invoice_date", "copy.lines")


def counting_lines(invoices: DataFrame) -> DataFrame:
    """One row per counting line: invoice, invoice_date, stock_code, description (surrounding spaces trimmed)."""
    condition = line_condition("counting_line", admin_codes())
    # Exploded first: Spark compiles a filter of rows, but interprets one within an array, at twice the time.
    return (
        invoices.select("invoice", "invoice_date", F.explode("lines").alias("line"))
        .where(condition)
        .select("invoice", "invoice_date", "line.stock_code", F.trim(F.col("line.description")).alias("description"))
    )


def baskets_of(lines: DataFrame) -> DataFrame:
    """One row per basket (invoice, items): an invoice's distinct stock codes in order, if there are at least 2."""
    return (
        lines.groupBy("invoice")
        .agg(F.sort_array(F.collect_set("stock_code")).alias("items"))
        .where(F.size("items") >= 2)
    )


def canonical_names(lines: DataFrame) -> DataFrame:
    """One row per stock code (stock_code, name): its most frequent description; ties go to the newest, then by
    alphabet."""
    described = lines.groupBy("stock_code", "description").agg(
        F.count("*").alias("lines"), F.max("invoice_date").alias("newest")
    )
    first = Window.partitionBy("stock_code").orderBy(F.desc("lines"), F.desc("newest"), "description")
    return (
        described.withColumn("place", F.row_number().over(first))
        .where("place = 1")
        .select("stock_code", F.col("description").alias("name"))
    )
