-- In key order, so that two writers could never deadlock. Under `ignore`, returns change nothing. What stood before goes
-- to due_customer with what stands now: all parts of one statement see the table as it was before the statement.
WITH purchase AS (
    SELECT customer_id,
           max(invoice_date) FILTER (WHERE counting_lines > 0) AS last_purchase,
           count(*) FILTER (WHERE counting_lines > 0) AS frequency,
           sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL
      AND (counting_lines > 0 OR (%(returns_policy)s = 'net' AND returned < 0))
    GROUP BY customer_id
), old AS (
    SELECT c.customer_id, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
    FROM purchase
    JOIN mart.customer c USING (customer_id)
    WHERE c.frequency > 0
), written AS (
    INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
    SELECT customer_id, last_purchase, frequency, monetary
    FROM purchase
    ORDER BY customer_id
    ON CONFLICT (customer_id) DO UPDATE
    SET last_purchase = greatest(c.last_purchase, excluded.last_purchase),
        frequency     = c.frequency + excluded.frequency,
        monetary      = c.monetary + excluded.monetary,
        updated_at    = now()
    RETURNING c.customer_id, c.ctid AS row_id, c.last_purchase::date, c.frequency, c.monetary
)
INSERT INTO due_customer
SELECT customer_id, row_id, written.last_purchase, nullif(written.frequency, 0),
       CASE WHEN written.frequency > 0 THEN written.monetary END,
       old.last_purchase, old.frequency, old.monetary, old.r, old.f, old.m, old.segment
FROM written
LEFT JOIN old USING (customer_id)
