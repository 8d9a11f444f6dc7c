own AS (
    SELECT DISTINCT ON (customer_id)
           customer_id, invoice, CASE WHEN counting_lines > 0 THEN 'own purchase' ELSE 'own return' END AS cause
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    ORDER BY customer_id, counting_lines > 0 DESC, invoice_date DESC, invoice DESC
), clock AS (
    -- Where every invoice is ahead of the clock: now.
    SELECT coalesce(newest_invoice_date, now() AT TIME ZONE time_zone) AS newest_invoice_date FROM mart.shop
), moved AS (
    -- Without a given cause it is told by the batch's own invoices.
    INSERT INTO mart.segment_change (
        customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice, event_time
    )
    SELECT customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m,
           coalesce(%(cause)s, own.cause, 'overtaken'), own.invoice, (SELECT newest_invoice_date FROM clock)
    FROM scored
    LEFT JOIN own USING (customer_id)
    WHERE from_segment IS DISTINCT FROM to_segment
    ORDER BY customer_id -- as the index of the moves: neighbours are written together
    RETURNING from_segment, to_segment
), flow AS (
    INSERT INTO mart.segment_flow_total AS t (day, from_segment, to_segment, moves)
    SELECT (SELECT newest_invoice_date::date FROM clock), from_segment, to_segment, count(*)
    FROM moved
    GROUP BY from_segment, to_segment
    ON CONFLICT (day, from_segment, to_segment) DO UPDATE SET moves = t.moves + excluded.moves
)
SELECT count(*) FROM moved
