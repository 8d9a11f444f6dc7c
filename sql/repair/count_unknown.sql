-- Invoices of the mart that the lake does not have, and all.
SELECT count(*) FILTER (WHERE s.invoice IS NULL), count(*)
FROM mart.invoice i
LEFT JOIN staged_invoice s USING (invoice)
