SELECT "partition", "offset", reason FROM mart.rejected_invoice r
WHERE topic_id = (SELECT topic_id FROM mart.stream_position WHERE topic = r.topic LIMIT 1)
