-- One row: what is older than each bound; a bound that is null keeps all.
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
