SELECT customer_segment, customers::int FROM mart.segment_count WHERE customers > 0
