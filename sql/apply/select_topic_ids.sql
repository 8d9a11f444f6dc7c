SELECT DISTINCT topic_id::text FROM mart.stream_position WHERE topic = %(topic)s AND topic_id <> %(topic_id)s
