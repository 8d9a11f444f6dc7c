-- Repair: make the mart equal to the lake. In order, in one transaction: the lake's invoices are staged
-- (apply/copy_staged) and customers recounted from them; what will be replaced is copied out; invoices (new ones by
-- apply/insert_invoices), customers and the shop's sums are corrected; sql/score.sql rescores everyone.

-- name: stage_unlanded
-- Invoices from before the dates that the lake keeps stay as the mart has them.
INSERT INTO staged_invoice (
    {apply/invoice_columns}
)
SELECT {apply/invoice_columns}
FROM mart.invoice i
WHERE invoice_date < %(lake_kept_since)s AND NOT EXISTS (SELECT FROM staged_invoice s WHERE s.invoice = i.invoice)

-- name: analyze_stage
-- Autovacuum does not analyze temporary tables; without this the plans would be for an empty one.
ANALYZE staged_invoice

-- name: create_recounted
-- One row per customer, by apply/recounted_customers from the staged invoices.
CREATE TEMPORARY TABLE recounted_customer ON COMMIT DROP AS
{customers};
CREATE UNIQUE INDEX ON recounted_customer (customer_id);
ANALYZE recounted_customer

-- name: count_unknown
-- The mart's invoices that the lake does not have, and all of them.
SELECT count(*) FILTER (WHERE s.invoice IS NULL), count(*)
FROM mart.invoice i
LEFT JOIN staged_invoice s USING (invoice)

-- name: invoice_differs
-- Whether the content of the mart's invoice `i` differs from that of the lake's, `s`.
(i.customer_id, i.content_sha256, {i.apply/invoice_content})
IS DISTINCT FROM (s.customer_id, s.content_sha256, {s.apply/invoice_content})

-- name: copy_replaced_invoices
-- The invoices that will be removed or corrected, as they are.
COPY (
    SELECT i.*
    FROM mart.invoice i
    LEFT JOIN staged_invoice s USING (invoice)
    WHERE {repair/invoice_differs}
    ORDER BY i.invoice
) TO STDOUT (FORMAT csv, HEADER)

-- name: customer_differs
-- Whether the recount `n` of the mart's customer `c` differs.
(c.last_purchase, c.frequency, c.monetary) IS DISTINCT FROM (n.last_purchase, n.frequency, n.monetary)

-- name: copy_replaced_customers
-- The customers who will be removed or corrected, as they are; not those with nothing but wrong scores.
COPY (
    SELECT c.*
    FROM mart.customer c
    LEFT JOIN recounted_customer n USING (customer_id)
    WHERE {repair/customer_differs}
    ORDER BY c.customer_id
) TO STDOUT (FORMAT csv, HEADER)

-- name: delete_invoices
DELETE FROM mart.invoice i WHERE NOT EXISTS (SELECT FROM staged_invoice s WHERE s.invoice = i.invoice)

-- name: correct_invoices
-- Only those that differ, including the record that they come from.
UPDATE mart.invoice i
SET ({apply/invoice_columns}) = ROW ({s.apply/invoice_columns})
FROM staged_invoice s
WHERE i.invoice = s.invoice
  AND {repair/invoice_differs}

-- name: delete_customers
DELETE FROM mart.customer c WHERE NOT EXISTS (SELECT FROM recounted_customer n WHERE n.customer_id = c.customer_id)

-- name: correct_customers
-- Only those who differ; the others keep their time of update.
UPDATE mart.customer c
SET last_purchase = n.last_purchase,
    frequency     = n.frequency,
    monetary      = n.monetary,
    updated_at    = now()
FROM recounted_customer n
WHERE c.customer_id = n.customer_id
  AND {repair/customer_differs}

-- name: insert_customers
-- In key order, as apply does.
INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary)
SELECT customer_id, last_purchase, frequency, monetary
FROM recounted_customer
WHERE customer_id NOT IN (SELECT customer_id FROM mart.customer)
ORDER BY customer_id

-- name: count_shop
-- The shop's sums, including pruned invoices, and its newest date up to the clock's limit at the last batch.
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

-- name: forget_scores
-- A customer without a purchase has no scores; by_ntile handles only the others.
UPDATE mart.customer
SET r = NULL, f = NULL, m = NULL, segment = NULL
WHERE frequency = 0 AND (r, f, m, segment) IS DISTINCT FROM (NULL, NULL, NULL, NULL)
