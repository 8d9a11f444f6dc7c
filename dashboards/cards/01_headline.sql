-- title: Now
-- group: now
-- chart: scalar
-- description: The mart as it is now: all invoices and revenue applied so far, invoices per second over the last 10 seconds, latency (Kafka to mart, slowest record) and delay (how far the stream is behind its topic: the age of the last batch's newest record when it was written, or its age now while no job is connected).
-- refresh: 1 s
-- columns: invoices bigint, revenue numeric, invoices_per_second numeric, latency numeric, delay numeric
-- unit: revenue = currency, latency = ms, delay = ms
SELECT invoices, revenue, invoices_per_second, latency_ms AS latency, behind_ms AS delay
FROM mart.stream_status
