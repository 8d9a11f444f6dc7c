-- The row stays: `verify` needs to know which copies in the lake were refused, and replays that they were seen.
UPDATE mart.rejected_invoice r
SET raw = NULL, detail = 'erased', outcome = 'erased', settled_at = clock_timestamp()
FROM (VALUES %s) AS v (topic_id, "partition", "offset")
WHERE r.topic_id = v.topic_id::uuid AND r."partition" = v."partition" AND r."offset" = v."offset"
