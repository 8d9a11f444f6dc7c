SELECT id, business_date, window_days, min_support, min_confidence, max_items, lake_version, baskets, rules, status,
       is_current, reason
FROM mart.rule_run
ORDER BY id DESC
LIMIT %(n)s
