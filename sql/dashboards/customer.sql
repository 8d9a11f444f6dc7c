SELECT customer_id, customer_segment, recency, frequency, monetary, last_purchase, r, f, m, created_at
FROM mart.customer_segmentation
WHERE customer_id = %(customer_id)s
