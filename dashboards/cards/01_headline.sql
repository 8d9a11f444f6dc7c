-- title: Now
-- chart: scalar
-- description: The mart as it is now: invoices and revenue applied in all, invoices a second over the last 10 seconds, the time from Kafka to the mart of the slowest record, and how old the newest record was when the last batch was written (how far the stream ran behind).
-- refresh: 1 s
-- columns: invoices bigint, revenue numeric, invoices_per_second numeric, latency numeric, lag numeric
-- unit: revenue = currency, latency = ms, lag = ms
SELECT invoices, revenue, invoices_per_second, latency_ms AS latency, behind_ms AS lag
FROM mart.stream_status
