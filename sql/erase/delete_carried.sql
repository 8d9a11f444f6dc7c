DELETE FROM mart.customer_carried WHERE customer_id = ANY(%(customers)s)
