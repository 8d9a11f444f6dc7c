-- The next open records after a place, locked: two redrives at once take turns.
SELECT topic_id::text, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND outcome IS NULL
  AND (topic_id, "partition", "offset") > (%(after_topic_id)s::uuid, %(after_partition)s, %(after_offset)s)
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(coordinates)s::text[] IS NULL OR "partition" || ':' || "offset" = ANY(%(coordinates)s))
ORDER BY topic_id, "partition", "offset"
LIMIT %(limit)s
FOR UPDATE
