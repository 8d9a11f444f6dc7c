-- One row a customer, from the staged invoices: what mart.customer must be, but for the scores.
CREATE TEMPORARY TABLE recounted_customer ON COMMIT DROP AS
SELECT customer_id,
       max(invoice_date) FILTER (WHERE counting_lines > 0) AS last_purchase,
       count(*) FILTER (WHERE counting_lines > 0) AS frequency,
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
FROM staged_invoice
WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
GROUP BY customer_id;
CREATE UNIQUE INDEX ON recounted_customer (customer_id);
ANALYZE recounted_customer
