-- What `status` and the metrics read from the mart, one query per part.

-- name: stream
SELECT max(applied_at) AS last_batch_at,
       extract(epoch FROM clock_timestamp() - max(applied_at))::float8 AS since_batch_seconds
FROM mart.stream_batch
WHERE topic = %(topic)s

-- name: next_offsets
SELECT "partition", next_offset, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS standing_seconds
FROM mart.stream_progress
WHERE topic_id = %(topic_id)s

-- name: rejects
SELECT coalesce(sum(records), 0)::bigint AS records, coalesce(sum(rejected), 0)::bigint AS rejected
FROM mart.stream_batch
WHERE topic = %(topic)s AND applied_at > now() - %(minutes)s * interval '1 minute'

-- name: failed
SELECT coalesce(sum(records), 0)::bigint AS records FROM mart.quarantine_count WHERE reason = %(reason)s

-- name: ahead
SELECT coalesce((SELECT invoices_ahead FROM mart.as_of), 0) AS invoices

-- name: wrong_scores
SELECT coalesce((SELECT wrong FROM mart.score_status), 0) AS wrong

-- name: nightly
SELECT status, reason, business_date, run_at, published_at, waiting_since,
       extract(epoch FROM now() - waiting_since)::float8 / 3600 AS waiting_hours
FROM mart.nightly_status
