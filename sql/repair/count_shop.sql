UPDATE mart.shop SET newest_invoice_date = (SELECT max(invoice_date) FROM mart.invoice);
UPDATE mart.stream_total t
SET invoices = i.invoices, purchased = i.purchased, returned = i.returned
FROM (
    SELECT count(*) AS invoices, coalesce(sum(purchased), 0) AS purchased, coalesce(sum(returned), 0) AS returned
    FROM mart.invoice
) i
