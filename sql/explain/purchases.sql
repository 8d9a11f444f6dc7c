SELECT invoice, invoice_date, line_count, counting_lines, purchased, returned, applied_at
FROM mart.explain_purchases(%(customer)s, %(newest)s)
