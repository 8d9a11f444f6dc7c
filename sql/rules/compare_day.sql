-- One business date in the mart against the invoice numbers that the lake holds of it. A landed number that the mart
-- knows under another date is a conflict that the mart has decided, not one that it lacks.
WITH landed AS (
    SELECT unnest(%(landed)s::text[]) COLLATE "C" AS invoice
), applied AS (
    SELECT invoice
    FROM mart.invoice
    WHERE invoice_date >= %(business_date)s::date AND invoice_date < %(business_date)s::date + 1
)
SELECT (SELECT count(*) FROM applied) AS in_mart,
       (SELECT count(*) FROM applied a WHERE NOT EXISTS (SELECT FROM landed l WHERE l.invoice = a.invoice)) AS not_landed,
       (SELECT count(*) FROM landed l
        WHERE NOT EXISTS (SELECT FROM mart.invoice i WHERE i.invoice = l.invoice)
          AND NOT EXISTS (SELECT FROM mart.pruned_invoice p WHERE p.invoice = l.invoice)) AS not_applied,
       (SELECT max(invoice_date)::date FROM mart.invoice) AS newest
