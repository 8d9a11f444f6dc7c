SELECT "partition", next_offset FROM mart.stream_position
