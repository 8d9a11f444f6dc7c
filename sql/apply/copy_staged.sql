COPY staged_invoice (
    invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned, content_sha256,
    kafka_partition, kafka_offset, kafka_timestamp
) FROM STDIN (FORMAT csv)
