-- title: Customers by segment
-- chart: bar
-- description: One bar a segment: the customers who are in it now, with what they have spent in all.
-- refresh: 1 s
-- columns: customer_segment text, customers bigint, monetary numeric
-- unit: monetary = currency
SELECT customer_segment, customers, monetary
FROM mart.segment_count
ORDER BY customers DESC, customer_segment
