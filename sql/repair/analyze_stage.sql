-- Nobody else counts a temporary table: without it the plans would be for an empty one.
ANALYZE staged_invoice
