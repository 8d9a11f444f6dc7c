-- The current run: what is recorded of it, what its rules are when they are counted and worked out again from their
-- counts, and how it differs from the run before it (null: none is kept, or it was asked for otherwise).
-- NaN is greater than every number, so it is never within a tolerance.
WITH run AS (
    SELECT * FROM mart.rule_run WHERE is_current
), rule AS (
    SELECT r.*,
           run.baskets::double precision AS n,
           r.together_count::double precision AS t,
           r.antecedent_count::double precision AS a,
           r.consequent_count::double precision AS c,
           run.min_support,
           run.min_confidence
    FROM mart.association_rule r
    JOIN run ON run.id = r.run_id
), rules AS (
    SELECT count(*) AS counted,
           count(*) FILTER (
               WHERE t > least(a, c) OR greatest(a, c) > n
                  OR together_count < min_support * n::bigint
                  OR together_count < min_confidence * antecedent_count
           ) AS wrong_counts,
           count(*) FILTER (
               WHERE NOT (support > 0 AND support <= 1 AND confidence > 0 AND confidence <= 1
                          AND lift > 1 AND lift < 'Infinity' AND leverage > 0 AND leverage <= 0.25
                          AND coalesce(conviction, 1) >= 1 AND coalesce(conviction, 1) < 'Infinity'
                          AND zhang > 0 AND zhang <= 1)
           ) AS out_of_range,
           count(*) FILTER (
               WHERE abs(support - t / n) > 1e-9
                  OR abs(confidence - t / a) > 1e-9
                  OR abs(lift - t * n / (a * c)) > 1e-9 * lift
                  OR abs(leverage - (t / n - a / n * c / n)) > 1e-9
                  OR (conviction IS NULL) <> (t = a)
                  OR abs(conviction - (n - c) * a / (n * nullif(a - t, 0))) > 1e-9 * conviction
                  OR abs(zhang - (t * n - a * c) / nullif(greatest(t * (n - a), a * (c - t)), 0)) > 1e-9
           ) AS wrong_measures
    FROM rule
), before AS (
    SELECT previous.*
    FROM run
    JOIN mart.rule_run previous ON previous.id = run.previous_run_id
    WHERE (previous.min_support, previous.min_confidence, previous.window_days, previous.lake)
          = (run.min_support, run.min_confidence, run.window_days, run.lake)
      AND previous.max_items IS NOT DISTINCT FROM run.max_items
), drift AS (
    SELECT count(*) FILTER (WHERE change = 'appeared') AS appeared,
           count(*) FILTER (WHERE change = 'vanished') AS vanished
    FROM mart.rule_drift
)
SELECT run.id AS run_id,
       run.business_date,
       run.baskets,
       run.products,
       run.itemsets,
       run.rules,
       rules.counted,
       rules.wrong_counts,
       rules.out_of_range,
       rules.wrong_measures,
       before.id AS before_run_id,
       before.baskets AS baskets_before,
       before.rules AS rules_before,
       drift.appeared,
       drift.vanished
FROM run
CROSS JOIN rules
CROSS JOIN drift
LEFT JOIN before ON true
