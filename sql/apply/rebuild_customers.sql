-- Every customer anew, by apply/recounted_customers from mart.invoice, under another returns policy. A customer of whom
-- only returns are known stays as a row with frequency 0, which no view shows.
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
{customers}
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = excluded.last_purchase,
    frequency     = excluded.frequency,
    monetary      = excluded.monetary,
    updated_at    = now()
