-- Records whose invoice number stands in the mart with other content.
SELECT s.kafka_partition, s.kafka_offset, s.kafka_timestamp, s.invoice, i.kafka_partition, i.kafka_offset
FROM staged_invoice s
JOIN mart.invoice i USING (invoice)
WHERE i.content_sha256 <> s.content_sha256
ORDER BY s.kafka_partition, s.kafka_offset
