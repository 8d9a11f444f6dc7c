-- Of a record that the lake may hold only the value goes, for `verify` has to know that it was refused: a conflicting
-- duplicate, and one that PostgreSQL refused.
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
