-- title: Revenue by segment
-- chart: bar
-- description: Total spend of the customers in each segment now.
-- refresh: 1 s
-- columns: customer_segment text, revenue numeric, customers bigint
-- unit: revenue = currency
SELECT customer_segment, monetary AS revenue, customers
FROM mart.segment_count
ORDER BY monetary DESC, customer_segment
