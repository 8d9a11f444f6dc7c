INSERT INTO mart.segment_trend (segment, at, customers, monetary)
SELECT customer_segment, date_trunc('minute', clock_timestamp()), customers, monetary FROM mart.segment_count
ON CONFLICT (segment, at) DO UPDATE SET customers = excluded.customers, monetary = excluded.monetary
