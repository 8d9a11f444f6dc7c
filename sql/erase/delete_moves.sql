DELETE FROM mart.segment_change WHERE customer_id = ANY(%(customers)s)
