-- Of several records with one invoice number the earliest wins, whatever the order of partitions.
WITH inserted AS (
    INSERT INTO mart.invoice (
        invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256,
        kafka_partition, kafka_offset, kafka_timestamp
    )
    SELECT DISTINCT ON (invoice)
        invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256,
        kafka_partition, kafka_offset, kafka_timestamp
    FROM staged_invoice
    ORDER BY invoice, kafka_timestamp, kafka_partition, kafka_offset
    ON CONFLICT (invoice) DO NOTHING
    RETURNING invoice, invoice_date, customer_id, counting_lines, purchased, returned
)
INSERT INTO fresh_invoice SELECT * FROM inserted
