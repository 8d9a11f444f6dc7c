SELECT invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned,
       encode(content_sha256, 'hex') AS content_sha256, kafka_partition, kafka_offset, kafka_timestamp, applied_at
FROM mart.invoice
WHERE customer_id = %(customer)s
ORDER BY invoice_date, invoice
