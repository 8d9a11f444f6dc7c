SELECT topic, topic_id::text, "partition", next_offset FROM mart.stream_position ORDER BY topic, "partition"
