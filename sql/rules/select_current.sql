SELECT id, rules, min_support, min_confidence, max_items FROM mart.rule_run WHERE is_current
