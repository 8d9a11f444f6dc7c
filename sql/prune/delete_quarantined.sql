-- Of a conflicting duplicate only the value goes: its copy is in the lake, and `verify` has to know it.
WITH gone AS (
    DELETE FROM mart.rejected_invoice
    WHERE rejected_at < %(quarantine)s::timestamptz AND reason <> 'conflicting_duplicate'
    RETURNING 1
), emptied AS (
    UPDATE mart.rejected_invoice
    SET raw = NULL, outcome = coalesce(outcome, 'pruned'), settled_at = coalesce(settled_at, clock_timestamp())
    WHERE rejected_at < %(quarantine)s::timestamptz AND reason = 'conflicting_duplicate' AND raw IS NOT NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM emptied)
