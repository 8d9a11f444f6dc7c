-- In key order, so that two writers could never deadlock. Under `ignore`, returns change nothing.
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
SELECT customer_id,
       max(invoice_date) FILTER (WHERE counting_lines > 0),
       count(*) FILTER (WHERE counting_lines > 0),
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END
FROM fresh_invoice
WHERE customer_id IS NOT NULL
  AND (counting_lines > 0 OR (%(returns_policy)s = 'net' AND returned < 0))
GROUP BY customer_id
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = greatest(c.last_purchase, excluded.last_purchase),
    frequency     = c.frequency + excluded.frequency,
    monetary      = c.monetary + excluded.monetary,
    updated_at    = now()
