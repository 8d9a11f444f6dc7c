COPY (
    SELECT topic, "partition", "offset", (extract(epoch FROM kafka_timestamp) * 1000000)::bigint AS kafka_us
    FROM mart.rejected_invoice
    WHERE reason = 'conflicting_duplicate'
) TO STDOUT (FORMAT csv, HEADER)
