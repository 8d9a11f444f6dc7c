-- The newest invoice date that is not later than PostgreSQL's clock by more than a day, whatever the records say of
-- themselves: of what the mart knew, of the batch, and of what was ahead of the clock before and no longer is. A clock
-- that was set back takes the date back with it.
UPDATE mart.shop
SET clock_limit = now_allowed.until,
    newest_invoice_date = greatest(
        CASE WHEN newest_invoice_date <= now_allowed.until THEN newest_invoice_date END,
        (SELECT max(invoice_date) FROM fresh_invoice WHERE invoice_date <= now_allowed.until),
        (SELECT max(invoice_date)
         FROM mart.invoice
         WHERE invoice_date <= now_allowed.until
           AND invoice_date > CASE WHEN newest_invoice_date <= now_allowed.until THEN newest_invoice_date
                                   ELSE '-infinity' END),
        (SELECT p.newest_invoice_date FROM mart.pruned_total p WHERE p.newest_invoice_date <= now_allowed.until)
    )
FROM (SELECT (now() AT TIME ZONE time_zone) + interval '1 day' AS until FROM mart.shop) now_allowed
