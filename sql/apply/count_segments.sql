SELECT customer_segment, customers FROM mart.segment_count
