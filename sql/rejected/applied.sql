SELECT invoice, encode(content_sha256, 'hex'), kafka_partition, kafka_offset
FROM mart.invoice
WHERE invoice = ANY(%(invoices)s)
