SELECT invoice, customer_id, invoice_date, line_count, counting_lines, purchased * 100, returned * 100
FROM mart.invoice
