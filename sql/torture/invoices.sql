SELECT invoice, customer_id, invoice_date, line_count, counting_lines, (purchased * 100)::bigint, (returned * 100)::bigint
FROM mart.invoice
