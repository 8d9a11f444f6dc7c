DELETE FROM mart.stream_position WHERE topic = %(topic)s
