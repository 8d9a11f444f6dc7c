-- In key order, so that two writers could never deadlock. Under `ignore`, returns change nothing. What stood before goes
-- to due_customer: all parts of one statement see the table as it was before the statement.
WITH purchase AS (
    SELECT customer_id,
           max(invoice_date) FILTER (WHERE counting_lines > 0) AS last_purchase,
           count(*) FILTER (WHERE counting_lines > 0) AS frequency,
           sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL
      AND (counting_lines > 0 OR (%(returns_policy)s = 'net' AND returned < 0))
    GROUP BY customer_id
), due AS (
    INSERT INTO due_customer
    SELECT p.customer_id, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
    FROM purchase p
    LEFT JOIN mart.customer c ON c.customer_id = p.customer_id AND c.frequency > 0
)
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
SELECT customer_id, last_purchase, frequency, monetary
FROM purchase
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = greatest(c.last_purchase, excluded.last_purchase),
    frequency     = c.frequency + excluded.frequency,
    monetary      = c.monetary + excluded.monetary,
    updated_at    = now()
