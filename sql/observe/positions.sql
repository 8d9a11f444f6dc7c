SELECT "partition", next_offset FROM mart.stream_progress WHERE topic_id = %(topic_id)s
