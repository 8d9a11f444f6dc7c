-- One row a reason and outcome of a topic's quarantined records.
SELECT reason, outcome, count(*), min(rejected_at), max(rejected_at)
FROM mart.rejected_invoice
WHERE topic = %(topic)s
  AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s))
  AND (%(settled)s OR outcome IS NULL)
GROUP BY reason, outcome
ORDER BY count(*) DESC, reason, outcome NULLS FIRST
