-- The mart's customers in one batch, from raw CSV lines (all text): the stream's business rules written once more,
-- for another engine, so that a fault in one of them shows. Returns policy: ignore.
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
      AND {product_line}
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
