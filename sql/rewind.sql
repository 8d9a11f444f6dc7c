-- Rewind: what prevents it, and what it leads to, before asking.

-- name: look
-- The job that is connected now, and how many records per second its largest batches processed.
SELECT (SELECT writer_application FROM mart.stream_status WHERE writer_connected AND writer_topic = %(topic)s),
       (SELECT (1000 * sum(records) / nullif(sum(apply_ms), 0))::float8
        FROM (SELECT records, apply_ms FROM mart.stream_batch WHERE topic = %(topic)s ORDER BY records DESC LIMIT 10)
            AS largest)
