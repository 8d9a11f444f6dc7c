SELECT topic_id::text, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(settled)s OR outcome IS NULL)
ORDER BY rejected_at DESC, topic_id, "partition", "offset" DESC
LIMIT %(newest)s
