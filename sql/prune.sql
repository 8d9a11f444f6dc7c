-- Prune: remove from the mart what is older than its bound. First the bounds' clock and how much would go, then each
-- kind.

-- name: select_clocks
-- One row: the date that recency is measured to (null in an empty mart), and now.
SELECT (SELECT as_of_date FROM mart.as_of), now()

-- name: count
-- One row: how much is older than each bound; a null bound keeps everything.
SELECT (SELECT count(*) FROM mart.invoice WHERE invoice_date < %(invoices)s::date) AS invoices,
       (SELECT count(*) FROM mart.segment_change WHERE event_time < %(moves)s::date) AS moves,
       (SELECT count(*) FROM mart.rejected_invoice
        WHERE rejected_at < %(quarantine)s::timestamptz
          AND (raw IS NOT NULL OR reason NOT IN ('conflicting_duplicate', 'internal_error')))
           AS quarantined,
       (SELECT count(*) FROM mart.rejected_invoice
        WHERE rejected_at < %(quarantine)s::timestamptz AND outcome IS NULL) AS waiting,
       (SELECT count(*) FROM mart.batch
        WHERE applied_at < %(batches)s::timestamptz AND id < (SELECT max(id) FROM mart.batch)) AS batches,
       (SELECT count(*) FROM mart.rule_run
        WHERE id <= (SELECT id FROM mart.rule_run WHERE status = 'published' ORDER BY id DESC OFFSET %(rule_runs)s LIMIT 1)
          AND id NOT IN (SELECT unnest(ARRAY[id, coalesce(previous_run_id, id)]) FROM mart.rule_run WHERE is_current))
           AS rule_runs

-- name: select_invoices
SELECT invoice FROM mart.invoice WHERE invoice_date < %(invoices)s::date

-- name: delete_invoices
-- Removes a page of invoices: their numbers are kept, and each customer's sums and the shop's are carried.
WITH gone AS (
    DELETE FROM mart.invoice WHERE invoice = ANY(%(invoices)s) RETURNING *
), numbered AS (
    INSERT INTO mart.pruned_invoice SELECT invoice FROM gone
), carried AS (
    INSERT INTO mart.customer_carried AS c (customer_id, frequency, purchased, returned, last_purchase)
    SELECT customer_id, count(*) FILTER (WHERE counting_lines > 0), sum(purchased), sum(returned),
           max(invoice_date) FILTER (WHERE counting_lines > 0)
    FROM gone
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    GROUP BY customer_id
    ON CONFLICT (customer_id) DO UPDATE
    SET frequency     = c.frequency + excluded.frequency,
        purchased     = c.purchased + excluded.purchased,
        returned      = c.returned + excluded.returned,
        last_purchase = greatest(c.last_purchase, excluded.last_purchase)
), counted AS (
    UPDATE mart.pruned_total t
    SET invoices            = t.invoices + g.invoices,
        purchased           = t.purchased + g.purchased,
        returned            = t.returned + g.returned,
        newest_invoice_date = greatest(t.newest_invoice_date, g.newest_invoice_date)
    FROM (
        SELECT count(*) AS invoices, coalesce(sum(purchased), 0) AS purchased, coalesce(sum(returned), 0) AS returned,
               max(invoice_date) AS newest_invoice_date
        FROM gone
    ) g
)
SELECT count(*) FROM gone

-- name: delete_moves
DELETE FROM mart.segment_change WHERE event_time < %(moves)s::date

-- name: delete_quarantined
-- If the lake may hold the record, only its value is removed, because `verify` has to know that it was refused: a
-- conflicting duplicate, or one that PostgreSQL refused.
WITH gone AS (
    DELETE FROM mart.rejected_invoice
    WHERE rejected_at < %(quarantine)s::timestamptz AND reason NOT IN ('conflicting_duplicate', 'internal_error')
    RETURNING 1
), emptied AS (
    UPDATE mart.rejected_invoice
    SET raw = NULL, outcome = coalesce(outcome, 'pruned'), settled_at = coalesce(settled_at, clock_timestamp())
    WHERE rejected_at < %(quarantine)s::timestamptz
      AND reason IN ('conflicting_duplicate', 'internal_error')
      AND raw IS NOT NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM emptied)

-- name: delete_batches
-- With the self-checks of that time; the newest batch is kept, for mart.stream_status. mart.stream_total keeps the
-- sums.
WITH checked AS (
    DELETE FROM mart.score_check WHERE checked_at < %(batches)s::timestamptz
)
DELETE FROM mart.batch
WHERE applied_at < %(batches)s::timestamptz AND id < (SELECT max(id) FROM mart.batch)
