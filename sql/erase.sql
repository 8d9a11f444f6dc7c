-- Erasure of customers. First what is stored, to show before asking. Then writers are locked out, the list and its salt
-- are read (apply reads them too) and extended; the customers are removed from the invoices, the carried sums, the
-- moves, the customers (sql/score.sql scores the others) and the quarantine; open pages are notified.

-- name: has_list
SELECT to_regclass('mart.erased_customer') IS NOT NULL

-- name: select_stored
-- What the mart stores of one customer before the erasure; the quarantine's values are read one by one (select_raw).
SELECT count(invoice), max(invoice_date)::date,
       coalesce((SELECT frequency FROM mart.customer_carried WHERE customer_id = %(customer)s), 0),
       (SELECT count(*) FROM mart.segment_change WHERE customer_id = %(customer)s)
FROM mart.invoice
WHERE customer_id = %(customer)s

-- name: count_landed
-- The lake's rows of a customer, for delta-rs's engine, which takes no parameters.
SELECT count(*) FROM lake WHERE customer_id = '{customer}'

-- name: lock_writers
-- Before lock_scores, as in apply: no batch is between checking what was erased or pruned and its commit, and none
-- begins, not even on a topic that is new just now.
LOCK TABLE mart.stream_writer IN EXCLUSIVE MODE

-- name: select_list
SELECT encode(salt, 'hex'), ARRAY(SELECT encode(customer_sha256, 'hex') FROM mart.erased_customer ORDER BY 1)
FROM mart.erasure_salt

-- name: set_salt
UPDATE mart.erasure_salt SET salt = decode(%(salt)s, 'hex')

-- name: extend_list
INSERT INTO mart.erased_customer (customer_sha256)
SELECT decode(unnest(%(digests)s::text[]), 'hex')
ON CONFLICT (customer_sha256) DO NOTHING

-- name: select_customers
-- Customers with these digests whom the mart still names.
SELECT customer_id
FROM (
    SELECT customer_id FROM mart.invoice WHERE customer_id IS NOT NULL
    UNION
    SELECT customer_id FROM mart.customer
    UNION
    SELECT customer_id FROM mart.customer_carried
    UNION
    SELECT customer_id FROM mart.segment_change
) named
CROSS JOIN mart.erasure_salt
WHERE encode(sha256(convert_to(encode(salt, 'hex') || customer_id, 'UTF8')), 'hex') = ANY(%(digests)s)
ORDER BY customer_id

-- name: forget_invoices
-- The invoice is kept: a copy of it is recognised by its key, and it is part of the shop's totals.
UPDATE mart.invoice
SET customer_id = NULL, content_sha256 = decode(repeat('00', 32), 'hex')
WHERE customer_id = ANY(%(customers)s)

-- name: delete_carried
DELETE FROM mart.customer_carried WHERE customer_id = ANY(%(customers)s)

-- name: delete_moves
DELETE FROM mart.segment_change WHERE customer_id = ANY(%(customers)s)

-- name: delete_customers
-- Removes them from the scores too: due_customer gets the previous values, and null for the current ones.
WITH gone AS (
    DELETE FROM mart.customer WHERE customer_id = ANY(%(customers)s) RETURNING *
), due AS (
    INSERT INTO due_customer (
        customer_id, old_last_purchase, old_frequency, old_monetary, old_r, old_f, old_m, old_segment
    )
    SELECT customer_id, last_purchase::date, frequency, monetary, r, f, m, segment
    FROM gone
    WHERE frequency > 0
)
SELECT count(*) FROM gone

-- name: select_raw
SELECT topic_id::text, "partition", "offset", raw FROM mart.rejected_invoice WHERE raw IS NOT NULL

-- name: forget_rejected
-- The row is kept: `verify` needs to know which copies in the lake were refused, and replays that they were seen.
UPDATE mart.rejected_invoice r
SET raw = NULL, detail = 'erased', outcome = 'erased', settled_at = clock_timestamp()
FROM (VALUES %s) AS v (topic_id, "partition", "offset")
WHERE r.topic_id = v.topic_id::uuid AND r."partition" = v."partition" AND r."offset" = v."offset"

-- name: tell_pages
-- As a batch does (mart.count_batch), so that open pages ask again.
SELECT pg_notify('mart_batch', '')
