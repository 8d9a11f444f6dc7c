SELECT changed_at, event_time, from_segment, to_segment, cause, invoice, from_r, from_f, from_m, to_r, to_f, to_m
FROM mart.explain_moves(%(customer_id)s, 25)
