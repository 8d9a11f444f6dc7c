-- One row a customer, from the lake's invoices and from what the customer's pruned ones came to.
CREATE TABLE recomputed_customer AS
WITH known AS (
    SELECT customer_id, (counting_lines > 0)::INTEGER AS frequency, purchased, returned,
           CASE WHEN counting_lines > 0 THEN invoice_date END AS last_purchase
    FROM landed_invoice
    WHERE customer_id IS NOT NULL
    UNION ALL
    SELECT customer_id, frequency, purchased, returned, last_purchase FROM carried
), customer AS (
    SELECT customer_id,
           sum(frequency) AS frequency,
           sum(purchased) + CASE WHEN $returns_policy = 'net' THEN sum(returned) ELSE 0 END AS monetary,
           max(last_purchase) AS last_purchase
    FROM known
    GROUP BY customer_id
    HAVING sum(frequency) > 0
)
SELECT customer_id, frequency, monetary::DECIMAL(38, 2) AS monetary, last_purchase, r, f, m, segment
FROM (
    SELECT *,
           ntile(5) OVER (ORDER BY last_purchase::DATE, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS m
    FROM customer
)
JOIN segment_score USING (r, f, m)
