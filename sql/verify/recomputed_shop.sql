-- From the recomputed invoices: the shop's sums, pruned invoices included, and the newest date up to the clock's limit of
-- the last batch.
CREATE TABLE recomputed_total AS
SELECT 'shop' AS total, sum(invoices)::BIGINT AS invoices, sum(purchased)::DECIMAL(38, 2) AS purchased,
       sum(returned)::DECIMAL(38, 2) AS returned,
       max(newest_invoice_date) FILTER (WHERE newest_invoice_date <= $clock_limit) AS newest_invoice_date
FROM (
    SELECT 1 AS invoices, purchased, returned, invoice_date AS newest_invoice_date FROM landed_invoice
    UNION ALL
    SELECT invoices, purchased, returned, newest_invoice_date FROM pruned_total
)
