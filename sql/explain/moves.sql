SELECT changed_at, event_time, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice
FROM mart.explain_moves(%(customer)s, %(newest)s)
