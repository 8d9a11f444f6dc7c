-- One row a customer, from the lake's invoices and from what the customer's pruned ones came to. A customer of whom only
-- returns are known has a row where these lower what will be bought (`net`), without scores.
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
), scored AS (
    SELECT customer_id,
           ntile(5) OVER (ORDER BY last_purchase::DATE, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS m
    FROM customer
    WHERE frequency > 0
)
SELECT customer_id, frequency, monetary::DECIMAL(38, 2) AS monetary, last_purchase, r, f, m, segment
FROM customer
LEFT JOIN scored USING (customer_id)
LEFT JOIN segment_score USING (r, f, m)
WHERE frequency > 0 OR monetary <> 0
