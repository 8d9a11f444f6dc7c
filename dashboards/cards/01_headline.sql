-- title: Now
-- chart: scalar
-- description: The mart as it is now: invoices and revenue applied in all, invoices a second over the last 10 seconds, the time from Kafka to the mart of the slowest record, and how far the stream runs behind its topic: how old the last batch's newest record was when written, or is now while no job is connected.
-- refresh: 1 s
-- columns: invoices bigint, revenue numeric, invoices_per_second numeric, latency numeric, lag numeric
-- unit: revenue = currency, latency = ms, lag = ms
SELECT invoices, revenue, invoices_per_second, latency_ms AS latency, behind_ms AS lag
FROM mart.stream_status
