-- title: Segments, last hour
-- chart: line
-- description: Customers in each segment at the end of each minute.
-- refresh: 5 s
-- columns: minute timestamptz, customer_segment text, customers bigint
SELECT at AS minute, customer_segment, customers
FROM mart.segment_count_history
WHERE at >= now() - interval '1 hour'
ORDER BY at, customer_segment
