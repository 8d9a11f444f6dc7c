-- Scores of the customers in due_customer by the cuts: writes the rows whose scores changed, the totals, who moved
-- between segments and why. Without a given cause it is told by the batch's own invoices.
WITH scored AS MATERIALIZED (
    SELECT d.customer_id, t.monetary, s.segment AS to_segment, t.r AS to_r, t.f AS to_f, t.m AS to_m,
           d.segment AS from_segment, d.r AS from_r, d.f AS from_f, d.m AS from_m
    FROM due_customer d
    JOIN mart.customer_tile t USING (customer_id)
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (t.r, t.f, t.m)
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM scored
    WHERE c.customer_id = scored.customer_id
      AND (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, to_segment)
), totalled AS (
    INSERT INTO mart.score_total AS t (r, f, m, customers, monetary)
    SELECT r, f, m, sum(customers), sum(monetary)
    FROM (
        SELECT to_r AS r, to_f AS f, to_m AS m, 1 AS customers, monetary FROM scored
        UNION ALL
        SELECT r, f, m, -1, -monetary FROM due_customer WHERE r IS NOT NULL
    ) delta
    GROUP BY r, f, m
    HAVING sum(customers) <> 0 OR sum(monetary) <> 0
    ORDER BY r, f, m
    ON CONFLICT (r, f, m) DO UPDATE
    SET customers = t.customers + excluded.customers, monetary = t.monetary + excluded.monetary
), own AS (
    SELECT DISTINCT ON (customer_id)
           customer_id, invoice, CASE WHEN counting_lines > 0 THEN 'own purchase' ELSE 'own return' END AS cause
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    ORDER BY customer_id, counting_lines > 0 DESC, invoice_date DESC, invoice DESC
), clock AS (
    SELECT newest_invoice_date FROM mart.shop
), moved AS (
    INSERT INTO mart.segment_change (
        customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice, event_time
    )
    SELECT customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m,
           coalesce(%(cause)s, own.cause, 'overtaken'), own.invoice, newest_invoice_date
    FROM scored
    CROSS JOIN clock
    LEFT JOIN own USING (customer_id)
    WHERE from_segment IS DISTINCT FROM to_segment
    RETURNING from_segment, to_segment
), flow AS (
    INSERT INTO mart.segment_flow_total AS t (day, from_segment, to_segment, moves)
    SELECT newest_invoice_date::date, from_segment, to_segment, count(*)
    FROM moved
    CROSS JOIN clock
    GROUP BY newest_invoice_date::date, from_segment, to_segment
    ON CONFLICT (day, from_segment, to_segment) DO UPDATE SET moves = t.moves + excluded.moves
)
SELECT count(*) FROM moved
