-- The nightly rules: a run is recorded, its rules copied and made current (or an earlier run again), old runs deleted.
-- Then what reads them: the list of runs, the checks and the rules themselves.

-- name: lock
-- Only one run publishes or rolls back at a time; readers are not blocked. The number is used for this lock only.
SELECT pg_advisory_xact_lock(7130902001)

-- name: insert_run
INSERT INTO mart.rule_run (
    status, reason, previous_run_id, business_date, window_days, min_support, min_confidence, max_items, engine,
    lake, lake_version, invoices, baskets, products, itemsets, rules, seconds, code_version, started_at
) VALUES (
    %(status)s, %(reason)s, %(previous_run_id)s, %(business_date)s, %(window_days)s, %(min_support)s,
    %(min_confidence)s, %(max_items)s, %(engine)s, %(lake)s, %(lake_version)s, %(invoices)s, %(baskets)s,
    %(products)s, %(itemsets)s, %(rules)s, %(seconds)s, %(code_version)s, %(started_at)s
) RETURNING id

-- name: copy_rules
-- Empty codes and names are text, not null; other empty fields are null.
COPY mart.association_rule (
    run_id, id, antecedent_codes, antecedent_names, consequent_code, consequent_name, lead_code,
    together_count, antecedent_count, consequent_count, support, confidence, lift, leverage, conviction, zhang
) FROM STDIN WITH (FORMAT csv, NULL '', FORCE_NOT_NULL (consequent_code, consequent_name, lead_code))

-- name: select_current
SELECT id, rules, min_support, min_confidence, max_items FROM mart.rule_run WHERE is_current

-- name: select_status
SELECT status FROM mart.rule_run WHERE id = %(run_id)s

-- name: clear_current
UPDATE mart.rule_run SET is_current = false WHERE is_current

-- name: set_current
UPDATE mart.rule_run SET is_current = true WHERE id = %(run_id)s AND status = 'published'

-- name: delete_old
-- Keeps the newest published runs and, whatever their age, the current one and the one it is compared with.
DELETE FROM mart.rule_run
WHERE id <= (SELECT id FROM mart.rule_run WHERE status = 'published' ORDER BY id DESC OFFSET %(kept)s LIMIT 1)
  AND id NOT IN (SELECT unnest(ARRAY[id, coalesce(previous_run_id, id)]) FROM mart.rule_run WHERE is_current)

-- name: compare_day
-- One business date in the mart compared with the invoice numbers that the lake has for it. A landed number that the
-- mart knows under another date is a conflict that the mart has decided, not one that it lacks.
WITH landed AS (
    SELECT unnest(%(landed)s::text[]) COLLATE "C" AS invoice
), applied AS (
    SELECT invoice
    FROM mart.invoice
    WHERE invoice_date >= %(business_date)s::date AND invoice_date < %(business_date)s::date + 1
)
SELECT (SELECT count(*) FROM applied) AS in_mart,
       (SELECT count(*) FROM applied a WHERE NOT EXISTS (SELECT FROM landed l WHERE l.invoice = a.invoice)) AS not_landed,
       (SELECT count(*) FROM landed l
        WHERE NOT EXISTS (SELECT FROM mart.invoice i WHERE i.invoice = l.invoice)
          AND NOT EXISTS (SELECT FROM mart.pruned_invoice p WHERE p.invoice = l.invoice)) AS not_applied,
       (SELECT max(invoice_date)::date FROM mart.invoice) AS newest

-- name: select_quality
-- The current run: what is recorded about it, what its rules are when recounted and recomputed from their counts, and
-- how it differs from the previous run (null: none is kept, or it had other parameters). NaN is greater than every
-- number, so it is never within a tolerance.
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

-- name: select_runs
SELECT id, business_date, window_days, min_support, min_confidence, max_items, lake_version, baskets, rules, status,
       is_current, reason
FROM mart.rule_run
ORDER BY id DESC
LIMIT %(n)s

-- name: top
SELECT antecedent_names, consequent_names, support, confidence, lift
FROM mart.market_basket_analysis
ORDER BY id
LIMIT %(n)s

-- name: recommend
SELECT stock_code, name, because, confidence, lift, support FROM mart.recommend(%(stock_codes)s, %(n)s)
