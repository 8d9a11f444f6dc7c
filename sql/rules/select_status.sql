SELECT status FROM mart.rule_run WHERE id = %(run_id)s
