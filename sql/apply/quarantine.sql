INSERT INTO mart.rejected_invoice (
    topic_id, topic, "partition", "offset", kafka_timestamp, reason, detail, raw, outcome, settled_at
)
VALUES %s
ON CONFLICT (topic_id, "partition", "offset") DO NOTHING
