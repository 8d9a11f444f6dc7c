-- title: Segments, last day
-- chart: area
-- description: One point a quarter of an hour and segment: the customers who were in the segment then.
-- refresh: 60 s
-- columns: moment timestamptz, customer_segment text, customers bigint
SELECT DISTINCT ON (date_bin('15 minutes', at, 'epoch'), customer_segment)
       date_bin('15 minutes', at, 'epoch') AS moment, customer_segment, customers
FROM mart.segment_count_history
WHERE at >= now() - interval '1 day'
ORDER BY date_bin('15 minutes', at, 'epoch'), customer_segment, at DESC
