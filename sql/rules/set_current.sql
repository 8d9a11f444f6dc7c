UPDATE mart.rule_run SET is_current = true WHERE id = %(run_id)s AND status = 'published'
