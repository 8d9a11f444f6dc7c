-- A page of invoices out of the mart: their numbers stay, and what each customer's came to is carried.
WITH gone AS (
    DELETE FROM mart.invoice WHERE invoice = ANY(%(invoices)s) RETURNING *
), numbered AS (
    INSERT INTO mart.pruned_invoice SELECT invoice FROM gone
), carried AS (
    INSERT INTO mart.customer_carried AS c (customer_id, frequency, purchased, returned, last_purchase)
    SELECT customer_id, count(*) FILTER (WHERE counting_lines > 0), sum(purchased), sum(returned),
           max(invoice_date) FILTER (WHERE counting_lines > 0)
    FROM gone
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    GROUP BY customer_id
    ON CONFLICT (customer_id) DO UPDATE
    SET frequency     = c.frequency + excluded.frequency,
        purchased     = c.purchased + excluded.purchased,
        returned      = c.returned + excluded.returned,
        last_purchase = greatest(c.last_purchase, excluded.last_purchase)
)
SELECT count(*) FROM gone
