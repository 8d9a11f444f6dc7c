UPDATE mart.invoice i
SET invoice_date    = s.invoice_date,
    customer_id     = s.customer_id,
    line_count      = s.line_count,
    counting_lines  = s.counting_lines,
    purchased       = s.purchased,
    returned        = s.returned,
    content_sha256  = s.content_sha256,
    kafka_partition = s.kafka_partition,
    kafka_offset    = s.kafka_offset,
    kafka_timestamp = s.kafka_timestamp
FROM staged_invoice s
WHERE i.invoice = s.invoice
  AND (i.invoice_date, i.customer_id, i.line_count, i.counting_lines, i.purchased, i.returned, i.content_sha256)
      IS DISTINCT FROM
      (s.invoice_date, s.customer_id, s.line_count, s.counting_lines, s.purchased, s.returned, s.content_sha256)
