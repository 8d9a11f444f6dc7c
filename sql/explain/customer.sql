SELECT customer_id, recency, frequency, monetary, last_purchase, r, f, m, customer_segment, as_of_date
FROM mart.customer_segmentation
CROSS JOIN mart.as_of
WHERE customer_id = %(customer)s
