SELECT changed_at, event_time, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice
FROM mart.segment_change
WHERE customer_id = %(customer)s
ORDER BY id
