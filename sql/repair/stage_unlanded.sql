-- Invoices from before the dates that the lake keeps stay as the mart has them.
INSERT INTO staged_invoice (
    invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256,
    kafka_partition, kafka_offset, kafka_timestamp
)
SELECT invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256,
       kafka_partition, kafka_offset, kafka_timestamp
FROM mart.invoice i
WHERE invoice_date < %(lake_kept_since)s AND NOT EXISTS (SELECT FROM staged_invoice s WHERE s.invoice = i.invoice)
