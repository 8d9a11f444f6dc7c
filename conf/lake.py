"""The lake's contract: one row per landed invoice. Landing writes it; the nightly rules and the benchmarks read it."""

import pyarrow as pa

LAKE_SCHEMA = pa.schema(
    [
        ("invoice", pa.string()),
        ("invoice_date", pa.timestamp("us")),
        ("business_date", pa.date32()),
        ("customer_id", pa.string()),
        (
            "lines",
            pa.list_(
                pa.struct(
                    [
                        ("stock_code", pa.string()),
                        ("description", pa.string()),
                        ("quantity", pa.int32()),
                        ("price", pa.decimal128(18, 2)),
                    ]
                )
            ),
        ),
        ("content_sha256", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("us", "UTC")),
    ]
)
"""`invoice_date` is the shop's local time; `business_date` its date, by which the table is partitioned; `price` is in
the shop's currency; `content_sha256` is hexadecimal and the same for equal content; `topic`, `partition` and `offset`
say which Kafka record the row is, `kafka_timestamp` when Kafka took it. An invoice that was sent twice has two rows:
the one with the least (kafka_timestamp, partition, offset) counts. A column is added at the end: landing adds it to an
existing lake, whose rows have null there."""

LAKE_PARTITION = "business_date"
