-- What the lake says the mart must hold (not what is older than the lake), in the columns of sql/apply/copy_staged.sql.
COPY (
    SELECT invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned,
           '\x' || content_sha256, "partition", "offset", kafka_timestamp
    FROM landed_invoice
    WHERE "offset" IS NOT NULL
) TO '{folder}/landed.csv' (FORMAT csv, HEADER false, QUOTE '"', ESCAPE '"', NULLSTR '')
