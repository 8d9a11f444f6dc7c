-- title: Segments, last day
-- chart: area
-- description: Customers in each segment every quarter of an hour.
-- refresh: 60 s
-- columns: moment timestamptz, customer_segment text, customers bigint
SELECT DISTINCT ON (date_bin('15 minutes', at, 'epoch'), customer_segment)
       date_bin('15 minutes', at, 'epoch') AS moment, customer_segment, customers
FROM mart.segment_count_history
WHERE at >= now() - interval '1 day'
ORDER BY date_bin('15 minutes', at, 'epoch'), customer_segment, at DESC
