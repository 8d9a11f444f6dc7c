SELECT customer_segment, customers, monetary FROM mart.segment_count
