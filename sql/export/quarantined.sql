SELECT topic, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at
FROM mart.rejected_invoice
WHERE raw IS NOT NULL
ORDER BY topic, topic_id, "partition", "offset"
