COPY (
    SELECT invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned,
           encode(content_sha256, 'hex') AS content_sha256
    FROM mart.invoice
) TO STDOUT (FORMAT csv, HEADER)
