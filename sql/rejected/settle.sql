UPDATE mart.rejected_invoice r
SET reason = v.reason, detail = v.detail, outcome = v.outcome,
    settled_at = CASE WHEN v.outcome IS NOT NULL THEN clock_timestamp() END
FROM (VALUES %s) AS v (topic_id, "partition", "offset", reason, detail, outcome)
WHERE r.topic_id = v.topic_id::uuid AND r."partition" = v."partition" AND r."offset" = v."offset"
