-- The as-of date follows no invoice that is dated later than PostgreSQL's clock allows: one till with a wrong clock made
-- everyone's recency wrong. Such an invoice counts in all other figures, and for the date once its time has come.

-- The newest invoice date up to a limit is one look at its end, and so are the invoices beyond it.
CREATE INDEX invoice_by_date ON mart.invoice (invoice_date);

ALTER TABLE mart.shop
    ADD COLUMN clock_limit timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC') + interval '1 day';
COMMENT ON COLUMN mart.shop.clock_limit IS
    'A day after PostgreSQL''s clock when the last batch was applied, shop''s local time: an invoice dated later does not '
    'move newest_invoice_date yet.';
COMMENT ON COLUMN mart.shop.newest_invoice_date IS 'Newest invoice date applied, up to clock_limit; shop''s local time.';
UPDATE mart.shop SET clock_limit = (now() AT TIME ZONE time_zone) + interval '1 day';
UPDATE mart.shop
SET newest_invoice_date = greatest(
    (SELECT max(invoice_date) FROM mart.invoice WHERE invoice_date <= clock_limit),
    (SELECT newest_invoice_date FROM mart.pruned_total p WHERE p.newest_invoice_date <= clock_limit)
)
WHERE newest_invoice_date > clock_limit;

CREATE OR REPLACE VIEW mart.as_of AS
SELECT CASE recency_clock WHEN 'wall' THEN (now() AT TIME ZONE time_zone)::date ELSE newest_invoice_date::date END
           AS as_of_date,
       recency_clock,
       time_zone,
       returns_policy,
       newest_invoice_date,
       clock_limit,
       (SELECT count(*) FROM mart.invoice WHERE invoice_date > clock_limit) AS invoices_ahead
FROM mart.shop;
COMMENT ON COLUMN mart.as_of.clock_limit IS 'An invoice dated later does not move the as-of date yet: a day after the clock at the last batch.';
COMMENT ON COLUMN mart.as_of.invoices_ahead IS 'Invoices dated later than that. They count in every other figure.';

CREATE OR REPLACE VIEW mart.customer_segmentation AS
SELECT c.id,
       c.customer_id,
       greatest((SELECT as_of_date FROM mart.as_of) - c.last_purchase::date, 0) AS recency,
       c.frequency,
       c.monetary,
       c.segment AS customer_segment,
       c.created_at,
       c.updated_at,
       c.last_purchase,
       c.r,
       c.f,
       c.m
FROM mart.customer c
WHERE c.frequency > 0;
COMMENT ON COLUMN mart.customer_segmentation.recency IS
    'Whole days from the last purchase to the as-of date; 0 where that lies after it: the wall clock may be a day behind a '
    'purchase, and a till''s clock years ahead.';
