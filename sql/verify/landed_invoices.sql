-- One row an invoice that the lake holds before the mart's positions, with what of it counts: the stream's business
-- rules written once more, for another engine, so that a fault in one of them shows. Of several copies the earliest;
-- a copy that the mart refused as a conflicting duplicate is none, and an invoice that the mart pruned is not asked for.
CREATE TABLE landed_invoice AS
WITH due AS (
    SELECT lake.*
    FROM lake
    JOIN stream_position p ON p.topic = lake.topic AND p."partition" = lake."partition" AND lake."offset" < p.next_offset
    WHERE NOT EXISTS (
        SELECT 1 FROM conflict c
        WHERE c.topic = lake.topic AND c."partition" = lake."partition" AND c."offset" = lake."offset"
    ) AND NOT EXISTS (
        SELECT 1 FROM pruned WHERE pruned.invoice = lake.invoice
    )
), copy AS (
    SELECT *, row_number() OVER (PARTITION BY invoice ORDER BY kafka_timestamp, "partition", "offset") AS place FROM due
), line AS (
    SELECT invoice, unnest(lines, recursive := true) FROM copy WHERE place = 1
), summed AS (
    SELECT invoice,
           count(*) FILTER (WHERE is_counting) AS counting_lines,
           coalesce(sum(amount) FILTER (WHERE is_counting), 0) AS purchased,
           coalesce(sum(amount) FILTER (WHERE is_product AND quantity < 0), 0) AS returned
    FROM (
        SELECT *, is_product AND quantity > 0 AND NOT starts_with(invoice, 'C') AS is_counting
        FROM (SELECT *, quantity * price AS amount, {product_line} AS is_product FROM line)
    )
    GROUP BY invoice
)
SELECT invoice, invoice_date, customer_id, len(lines)::INTEGER AS line_count, counting_lines::INTEGER AS counting_lines,
       purchased::DECIMAL(38, 2) AS purchased, returned::DECIMAL(38, 2) AS returned, content_sha256
FROM copy
JOIN summed USING (invoice)
WHERE place = 1
