UPDATE mart.customer c
SET last_purchase = n.last_purchase,
    frequency     = n.frequency,
    monetary      = n.monetary,
    updated_at    = now()
FROM recounted_customer n
WHERE c.customer_id = n.customer_id
  AND (c.last_purchase, c.frequency, c.monetary) IS DISTINCT FROM (n.last_purchase, n.frequency, n.monetary)
