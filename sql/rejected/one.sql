-- The record at a coordinate; of several topics of the name the one that was read last comes first.
SELECT topic_id::text, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at
FROM mart.rejected_invoice
WHERE topic = %(topic)s AND "partition" = %(partition)s AND "offset" = %(offset)s
ORDER BY rejected_at DESC
