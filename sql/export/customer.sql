SELECT c.customer_id, c.last_purchase, c.frequency, c.monetary, c.r, c.f, c.m, c.segment, c.created_at, c.updated_at
FROM mart.customer c
WHERE c.customer_id = %(customer)s
