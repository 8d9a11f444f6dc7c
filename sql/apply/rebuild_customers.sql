-- Every customer anew from the invoices, under another returns policy. A customer of whom only returns are known
-- stays as a row with frequency 0, which no view shows.
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
SELECT customer_id,
       max(invoice_date) FILTER (WHERE counting_lines > 0),
       count(*) FILTER (WHERE counting_lines > 0),
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END
FROM mart.invoice
WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
GROUP BY customer_id
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = excluded.last_purchase,
    frequency     = excluded.frequency,
    monetary      = excluded.monetary,
    updated_at    = now()
