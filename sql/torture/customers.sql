SELECT customer_id, last_purchase, frequency, monetary * 100, r::int, f::int, m::int, customer_segment
FROM mart.customer_segmentation
