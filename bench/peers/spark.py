"""What the peers on Spark share: the session, and an event's purchase by from_json and SQL expressions."""

from __future__ import annotations

from psycopg2.extensions import parse_dsn
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from conf.line_rules import admin_codes
from conf.segments import segment_scores
from conf.settings import settings
from jvm.jars import Coordinate, JarSet, fetched
from jvm.session import spark_session
from sql import line_condition

EVENTS_AT_A_TIME = 40_000  # MAX_INVOICES_PER_BATCH's default
_JDBC = JarSet("postgresql-42.7.7", "PostgreSQL's JDBC driver", (Coordinate("org.postgresql", "postgresql", "42.7.7"),))
_EVENT = (
    "invoice STRING, invoice_date TIMESTAMP_NTZ, customer_id STRING, "
    "lines ARRAY<STRUCT<stock_code: STRING, description: STRING, quantity: INT, price: STRING>>"
)


def session(name: str) -> SparkSession:
    """The session of our own jobs, with their settings, and the JDBC driver."""
    driver = next(fetched(_JDBC).glob("postgresql-*.jar"))
    options = {"spark.jars": driver.as_uri(), "spark.driver.extraJavaOptions": "-Xss16m"}
    return spark_session(f"retail-mart bench, {name}", settings(), options)


def purchases(events: DataFrame) -> DataFrame:
    """Kafka's records → one row an invoice that counts: invoice, invoice_date, customer_id, cents, timestamp."""
    parsed = events.select("timestamp", F.from_json(F.col("value").cast("string"), _EVENT).alias("event"))
    lines = parsed.select("timestamp", "event.*").withColumn(
        "lines",
        F.expr(
            "transform(lines, l -> named_struct('stock_code', l.stock_code, 'description', l.description, "
            "'quantity', l.quantity, 'price', cast(l.price AS DECIMAL(18, 2))))"
        ),
    )
    counting = line_condition("counting_line", admin_codes())
    return (
        lines.where("customer_id IS NOT NULL")
        .withColumn("lines", F.expr(f"filter(lines, line -> {counting})"))
        .where("size(lines) > 0")
        .withColumn(
            "cents", F.expr("aggregate(lines, 0L, (sum, line) -> sum + cast(line.quantity * line.price * 100 AS LONG))")
        )
        .select("invoice", "invoice_date", "customer_id", "cents", "timestamp")
    )


def scored(customers: DataFrame) -> DataFrame:
    """Customers (customer_id, frequency, monetary, last_purchase) with r, f, m by ntile and their segment."""
    metrics = {"r": F.col("last_purchase").cast("date"), "f": F.col("frequency"), "m": F.col("monetary")}
    for score, metric in metrics.items():
        customers = customers.withColumn(score, F.ntile(5).over(Window.orderBy(metric, "customer_id")))
    segments = customers.sparkSession.createDataFrame(list(segment_scores()), "r INT, f INT, m INT, segment STRING")
    return customers.join(F.broadcast(segments), ["r", "f", "m"])


def overwrite(frame: DataFrame, dsn: str, table: str) -> None:
    """Drop the table and write it anew by JDBC, as `mode("overwrite")` does."""
    at = parse_dsn(dsn)
    url = f"jdbc:postgresql://{at['host']}:{at['port']}/{at['dbname']}"
    login = {"user": at["user"], "password": at["password"], "driver": "org.postgresql.Driver"}
    frame.write.jdbc(url, table, "overwrite", login)
