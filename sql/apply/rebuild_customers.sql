-- Every customer anew from the invoices and from what pruned ones came to, under another returns policy. A customer of
-- whom only returns are known stays as a row with frequency 0, which no view shows.
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
SELECT customer_id,
       max(last_purchase),
       sum(frequency),
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END
FROM (
    SELECT customer_id, CASE WHEN counting_lines > 0 THEN invoice_date END AS last_purchase,
           (counting_lines > 0)::int AS frequency, purchased, returned
    FROM mart.invoice
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    UNION ALL
    SELECT customer_id, last_purchase, frequency, purchased, returned FROM mart.customer_carried
) known
GROUP BY customer_id
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = excluded.last_purchase,
    frequency     = excluded.frequency,
    monetary      = excluded.monetary,
    updated_at    = now()
