-- The shop's sums and newest date, pruned invoices included; the date up to the clock's limit of the last batch.
CREATE TEMPORARY TABLE recounted_shop ON COMMIT DROP AS
SELECT sum(invoices) AS invoices, sum(purchased) AS purchased, sum(returned) AS returned, max(newest) AS newest
FROM (
    SELECT count(*) AS invoices, coalesce(sum(purchased), 0) AS purchased, coalesce(sum(returned), 0) AS returned,
           max(invoice_date) FILTER (WHERE invoice_date <= (SELECT clock_limit FROM mart.shop)) AS newest
    FROM mart.invoice
    UNION ALL
    SELECT invoices, purchased, returned,
           CASE WHEN newest_invoice_date <= (SELECT clock_limit FROM mart.shop) THEN newest_invoice_date END
    FROM mart.pruned_total
) known;
UPDATE mart.shop SET newest_invoice_date = (SELECT newest FROM recounted_shop);
UPDATE mart.stream_total t
SET invoices = i.invoices, purchased = i.purchased, returned = i.returned
FROM recounted_shop i
