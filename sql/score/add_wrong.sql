-- Every customer whose scores or segment are not what the cuts and the definitions give.
INSERT INTO due_customer
SELECT c.customer_id, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
FROM mart.customer_tile t
JOIN mart.customer c USING (customer_id)
JOIN mart.segment_score s ON (s.r, s.f, s.m) = (t.r, t.f, t.m)
WHERE (c.r, c.f, c.m, c.segment) IS DISTINCT FROM (t.r, t.f, t.m, s.segment)
ON CONFLICT (customer_id) DO NOTHING
