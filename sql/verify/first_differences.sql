-- The first differences of a table; with a customer the invoices that differ, which explain it.
WITH of_customer AS (
    SELECT coalesce(m.customer_id, l.customer_id) AS customer_id, list(DISTINCT d.key ORDER BY d.key) AS invoices
    FROM invoice_difference d
    LEFT JOIN mart_invoice m ON m.invoice = d.key
    LEFT JOIN landed_invoice l ON l.invoice = d.key
    WHERE '{table}' = 'customer'
    GROUP BY 1
)
SELECT d.key, d.difference, d.mart, d.lake, o.invoices[:5]
FROM {table}_difference d
LEFT JOIN of_customer o ON o.customer_id = d.key
ORDER BY o.invoices IS NULL, d.key, d.difference
LIMIT $shown
