-- The lake in DuckDB: the nightly rules' lines, names and baskets, in that order; and the mart's customers recomputed
-- from raw CSV, for the demo.

-- name: product_line
-- Whether a line (columns price, description, stock_code) is a product, not a charge.
price > 0
AND trim(description, ' ') <> ''
AND regexp_matches(stock_code, '[0-9]')
AND NOT list_contains($admin_codes, upper(trim(stock_code, ' ')))

-- name: conflicting_invoices
-- How many invoices of a window have more than one content in the lake, whatever the date of the other copy.
SELECT count(*) AS invoices
FROM (
    SELECT invoice
    FROM lake
    GROUP BY invoice
    HAVING min(content_sha256) <> max(content_sha256)
       AND bool_or(business_date > $after AND business_date <= $until)
)

-- name: sold_lines
-- The counting lines of a window's invoices, each invoice once, by the same rules as batch_rules.baskets, whose tests
-- check both. Of an invoice that was landed more than once, the copy that Kafka received first; if that one is outside
-- the window, so is the invoice.
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
  AND {duckdb/product_line}

-- name: canonical_names
-- One row per stock code: its most frequent description; ties go to the newest, then by alphabet.
WITH described AS (
    SELECT stock_code, description, count(*) AS lines, max(invoice_date) AS newest
    FROM sold_line
    GROUP BY stock_code, description
)
SELECT stock_code, description
FROM described
QUALIFY row_number() OVER (PARTITION BY stock_code ORDER BY lines DESC, newest DESC, description) = 1

-- name: baskets
-- One row per basket: an invoice's distinct stock codes in order, if there are at least 2.
CREATE TEMP TABLE basket AS
SELECT invoice, list(DISTINCT stock_code ORDER BY stock_code) AS items
FROM sold_line
GROUP BY invoice
HAVING count(DISTINCT stock_code) >= 2

-- name: recompute
-- The mart's customers in one batch, from raw CSV lines (all text): the stream's business rules once more, for another
-- engine, so that a bug in one of them shows. Returns policy: ignore.
WITH line AS (
    SELECT invoice,
           invoice_date::TIMESTAMP AS invoice_date,
           nullif(regexp_replace(customer_id, '\.0+$', ''), '') AS customer_id,
           stock_code,
           description,
           quantity::BIGINT AS quantity,
           price::DECIMAL(38, 2) AS price  -- wide, for the product with the quantity
    FROM csv_line
), dated AS (
    SELECT *, min(invoice_date) OVER (PARTITION BY invoice) AS invoice_time FROM line
), counting AS (
    SELECT *
    FROM dated
    WHERE customer_id IS NOT NULL
      AND quantity > 0
      AND invoice NOT LIKE 'C%'
      AND {duckdb/product_line}
), customer AS (
    SELECT customer_id,
           count(DISTINCT invoice) AS frequency,
           sum(quantity * price) AS monetary,
           max(invoice_time) AS last_purchase
    FROM counting
    GROUP BY customer_id
), scored AS (
    SELECT *,
           ntile(5) OVER (ORDER BY last_purchase::DATE, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS m
    FROM customer
)
SELECT customer_id, frequency, monetary::DECIMAL(38, 2) AS monetary, last_purchase, r, f, m, segment
FROM scored
JOIN segment_score USING (r, f, m)
