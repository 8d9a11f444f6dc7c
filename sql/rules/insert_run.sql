INSERT INTO mart.rule_run (
    status, reason, previous_run_id, business_date, window_days, min_support, min_confidence, max_items, engine,
    lake, lake_version, invoices, baskets, products, itemsets, rules, seconds, code_version, started_at
) VALUES (
    %(status)s, %(reason)s, %(previous_run_id)s, %(business_date)s, %(window_days)s, %(min_support)s,
    %(min_confidence)s, %(max_items)s, %(engine)s, %(lake)s, %(lake_version)s, %(invoices)s, %(baskets)s,
    %(products)s, %(itemsets)s, %(rules)s, %(seconds)s, %(code_version)s, %(started_at)s
) RETURNING id
