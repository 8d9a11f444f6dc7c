UPDATE mart.shop
SET newest_invoice_date = newest.invoice_date
FROM (SELECT max(invoice_date) AS invoice_date FROM fresh_invoice) newest
WHERE newest.invoice_date > coalesce(newest_invoice_date, '-infinity')
