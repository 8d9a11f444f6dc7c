-- The usual way, for comparison: a full ntile(5) of each metric a batch; writes the rows that changed, and who moved.
WITH tile AS (
    SELECT customer_id, r AS from_r, f AS from_f, m AS from_m, segment AS from_segment,
           ntile(5) OVER (ORDER BY last_purchase::date, customer_id) AS to_r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS to_f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS to_m
    FROM mart.customer
    WHERE frequency > 0
), changed AS (
    SELECT tile.*, s.segment AS to_segment
    FROM tile
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
    WHERE (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM changed
    WHERE c.customer_id = changed.customer_id
), own_purchase AS (
    SELECT DISTINCT ON (customer_id) customer_id, invoice
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL AND counting_lines > 0
    ORDER BY customer_id, invoice_date DESC, invoice DESC
)
INSERT INTO mart.segment_change (
    customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice, event_time
)
SELECT customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m,
       CASE WHEN own_purchase.invoice IS NULL THEN 'overtaken' ELSE 'own purchase' END,
       own_purchase.invoice,
       (SELECT newest_invoice_date FROM mart.shop)
FROM changed
LEFT JOIN own_purchase USING (customer_id)
WHERE from_segment IS DISTINCT FROM to_segment
