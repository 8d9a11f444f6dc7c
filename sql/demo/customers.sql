SELECT customer_id, frequency, monetary, last_purchase, r, f, m, customer_segment AS segment
FROM mart.customer_segmentation
