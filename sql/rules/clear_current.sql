UPDATE mart.rule_run SET is_current = false WHERE is_current
