SELECT "partition", next_offset, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS standing_seconds
FROM mart.stream_progress
WHERE topic_id = %(topic_id)s
