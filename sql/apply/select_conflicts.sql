-- Records whose invoice number stands in the mart with other content. Where the digest went with an erased customer,
-- content is what the mart has of it.
SELECT s.kafka_partition, s.kafka_offset, s.kafka_timestamp, s.invoice, i.kafka_partition, i.kafka_offset
FROM staged_invoice s
JOIN mart.invoice i USING (invoice)
WHERE i.content_sha256 <> s.content_sha256
   OR (i.content_sha256 = decode(repeat('00', 32), 'hex')
       AND (i.invoice_date, i.line_count, i.counting_lines, i.purchased, i.returned)
           IS DISTINCT FROM (s.invoice_date, s.line_count, s.counting_lines, s.purchased, s.returned))
ORDER BY s.kafka_partition, s.kafka_offset
