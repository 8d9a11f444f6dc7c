-- One row an invoice, with what of it counts: the stream's business rules written once more, for another engine, so that
-- a fault in one of them shows.
CREATE TABLE landed_invoice AS
WITH line AS (
    SELECT invoice, unnest(lines, recursive := true) FROM landed_copy WHERE place = 1
), summed AS (
    SELECT invoice,
           count(*) FILTER (WHERE is_counting) AS counting_lines,
           coalesce(sum(amount) FILTER (WHERE is_counting), 0) AS purchased,
           coalesce(sum(amount) FILTER (WHERE is_product AND quantity < 0), 0) AS returned
    FROM (
        SELECT *, is_product AND quantity > 0 AND NOT starts_with(invoice, 'C') AS is_counting
        -- As wide as can be: DuckDB keeps a product of an integer and a decimal(18,2) in 18 digits.
        FROM (SELECT *, quantity * price::DECIMAL(38, 2) AS amount, {product_line} AS is_product FROM line)
    )
    GROUP BY invoice
)
SELECT invoice, invoice_date, customer_id, len(lines)::INTEGER AS line_count, counting_lines::INTEGER AS counting_lines,
       purchased::DECIMAL(38, 2) AS purchased, returned::DECIMAL(38, 2) AS returned, content_sha256,
       "partition", "offset", kafka_timestamp
FROM landed_copy
JOIN summed USING (invoice)
WHERE place = 1
