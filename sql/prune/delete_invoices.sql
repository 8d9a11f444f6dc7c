-- A page of invoices out of the mart: their numbers stay, and what each customer's, and all of them, came to is carried.
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
), counted AS (
    UPDATE mart.pruned_total t
    SET invoices            = t.invoices + g.invoices,
        purchased           = t.purchased + g.purchased,
        returned            = t.returned + g.returned,
        newest_invoice_date = greatest(t.newest_invoice_date, g.newest_invoice_date)
    FROM (
        SELECT count(*) AS invoices, coalesce(sum(purchased), 0) AS purchased, coalesce(sum(returned), 0) AS returned,
               max(invoice_date) AS newest_invoice_date
        FROM gone
    ) g
)
SELECT count(*) FROM gone
