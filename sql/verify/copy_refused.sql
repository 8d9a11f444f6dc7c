-- The records that the lake may hold and the mart has refused: for what the mart had already, or by PostgreSQL itself.
COPY (
    SELECT topic, "partition", "offset", (extract(epoch FROM kafka_timestamp) * 1000000)::bigint AS kafka_us, reason
    FROM mart.rejected_invoice
    WHERE reason IN ('conflicting_duplicate', 'internal_error')
) TO STDOUT (FORMAT csv, HEADER)
