SELECT "partition", next_offset FROM mart.stream_position WHERE topic_id = %(topic_id)s
