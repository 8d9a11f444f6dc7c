UPDATE mart.customer c
SET r = n.r, f = n.f, m = n.m, segment = s.segment, updated_at = now()
FROM new_score n
JOIN mart.segment_score s USING (r, f, m)
WHERE c.customer_id = n.customer_id
