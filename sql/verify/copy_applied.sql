-- Which record each invoice was applied from.
COPY (
    SELECT invoice, kafka_partition AS "partition", kafka_offset AS "offset",
           (extract(epoch FROM kafka_timestamp) * 1000000)::bigint AS kafka_us
    FROM mart.invoice
) TO STDOUT (FORMAT csv, HEADER)
