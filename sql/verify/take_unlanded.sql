-- Invoices from before the dates that the lake keeps: nothing is left there to compare them with, so they are taken as
-- the mart has them.
INSERT INTO landed_invoice BY NAME
SELECT m.* FROM mart_invoice m
WHERE m.invoice_date < $lake_kept_since AND NOT EXISTS (SELECT 1 FROM landed_invoice l WHERE l.invoice = m.invoice)
