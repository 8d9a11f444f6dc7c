-- Out of the scores, too: due_customer takes what stood before, and null for what stands now.
WITH gone AS (
    DELETE FROM mart.customer WHERE customer_id = ANY(%(customers)s) RETURNING *
), due AS (
    INSERT INTO due_customer (
        customer_id, old_last_purchase, old_frequency, old_monetary, old_r, old_f, old_m, old_segment
    )
    SELECT customer_id, last_purchase::date, frequency, monetary, r, f, m, segment
    FROM gone
    WHERE frequency > 0
)
SELECT count(*) FROM gone
