-- The records in quarantine: counted and shown, then parsed again (redrive) and settled.

-- name: count
-- One row per reason and outcome of a topic's quarantined records.
SELECT reason, outcome, count(*), max(rejected_at)
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(settled)s OR outcome IS NULL)
GROUP BY reason, outcome
ORDER BY count(*) DESC, reason, outcome NULLS FIRST

-- name: record_columns
-- The columns of mart.quarantine.Quarantined, in its order.
topic_id::text, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at

-- name: newest
SELECT {rejected/record_columns}
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(settled)s OR outcome IS NULL)
ORDER BY rejected_at DESC, topic_id, "partition", "offset" DESC
LIMIT %(newest)s

-- name: one
-- The record at a coordinate; if there are several topics of that name, the one read last comes first.
SELECT {rejected/record_columns}
FROM mart.rejected_invoice
WHERE topic = %(topic)s AND "partition" = %(partition)s AND "offset" = %(offset)s
ORDER BY rejected_at DESC

-- name: lock_open
-- The next open records after a coordinate, locked: concurrent redrives take turns.
SELECT {rejected/record_columns}
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND outcome IS NULL
  AND (topic_id, "partition", "offset") > (%(after_topic_id)s::uuid, %(after_partition)s, %(after_offset)s)
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(coordinates)s::text[] IS NULL OR "partition" || ':' || "offset" = ANY(%(coordinates)s))
ORDER BY topic_id, "partition", "offset"
LIMIT %(limit)s
FOR UPDATE

-- name: applied
SELECT invoice, encode(content_sha256, 'hex'), kafka_partition, kafka_offset
FROM mart.invoice
WHERE invoice = ANY(%(invoices)s)

-- name: settle
-- An outcome settles the record; without one it stays open with a new reason.
UPDATE mart.rejected_invoice r
SET reason = v.reason, detail = v.detail, outcome = v.outcome,
    settled_at = CASE WHEN v.outcome IS NOT NULL THEN clock_timestamp() END
FROM (VALUES %s) AS v (topic_id, "partition", "offset", reason, detail, outcome)
WHERE r.topic_id = v.topic_id::uuid AND r."partition" = v."partition" AND r."offset" = v."offset"
