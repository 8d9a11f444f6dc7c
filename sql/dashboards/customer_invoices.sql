SELECT invoice_date, invoice, counting_lines, purchased, returned
FROM mart.explain_purchases(%(customer_id)s, 25)
