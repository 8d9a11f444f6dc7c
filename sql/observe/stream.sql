SELECT max(applied_at) AS last_batch_at,
       extract(epoch FROM clock_timestamp() - max(applied_at))::float8 AS since_batch_seconds
FROM mart.stream_batch
WHERE topic = %(topic)s
