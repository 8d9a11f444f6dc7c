-- The lines that count of a window's invoices, each invoice once: the very rules of batch_rules.baskets, whose tests
-- hold both. Of an invoice that was landed more than once the copy that Kafka took first; if that one lies outside the
-- window, so does the invoice.
CREATE TEMP TABLE sold_line AS
WITH copy AS (
    SELECT invoice,
           min(row(kafka_timestamp, "partition", "offset")) AS landed,
           arg_min(row(invoice_date, lines), row(kafka_timestamp, "partition", "offset")) AS content
    FROM lake
    WHERE business_date > $after AND business_date <= $until
    GROUP BY invoice
), elsewhere AS (
    SELECT invoice, min(row(kafka_timestamp, "partition", "offset")) AS landed
    FROM lake
    WHERE business_date <= $after OR business_date > $until
    GROUP BY invoice
), line AS (
    SELECT invoice, content[1] AS invoice_date, unnest(content[2], recursive := true)
    FROM copy
    LEFT JOIN elsewhere USING (invoice)
    WHERE elsewhere.landed IS NULL OR elsewhere.landed >= copy.landed
)
SELECT invoice, invoice_date, stock_code, trim(description, ' ') AS description
FROM line
WHERE quantity > 0
  AND NOT starts_with(invoice, 'C')
  AND {product_line}
