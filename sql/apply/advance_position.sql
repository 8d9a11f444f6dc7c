INSERT INTO mart.stream_position (topic_id, topic, "partition", next_offset, writer_epoch)
VALUES (%(topic_id)s, %(topic)s, %(partition)s, %(next_offset)s, %(epoch)s)
ON CONFLICT (topic_id, "partition") DO UPDATE
SET next_offset = excluded.next_offset, writer_epoch = excluded.writer_epoch, updated_at = now()
