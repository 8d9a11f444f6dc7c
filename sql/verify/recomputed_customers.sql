-- One row a customer, from the lake's invoices. A customer of whom only returns are known has a row where these lower
-- what will be bought (`net`), without scores.
CREATE TABLE recomputed_customer AS
WITH customer AS (
    SELECT customer_id,
           count(*) FILTER (WHERE counting_lines > 0) AS frequency,
           sum(purchased) + CASE WHEN $returns_policy = 'net' THEN sum(returned) ELSE 0 END AS monetary,
           max(invoice_date) FILTER (WHERE counting_lines > 0) AS last_purchase
    FROM landed_invoice
    WHERE customer_id IS NOT NULL
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
