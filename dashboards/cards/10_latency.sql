-- title: Latency, Kafka to mart
-- chart: line
-- description: One point each 5 seconds of the last 10 minutes: the time from a record's Kafka timestamp to its write, for the fastest and the slowest record; a gap is a time without a batch.
-- refresh: 1 s
-- columns: moment timestamptz, slowest numeric, fastest numeric
-- unit: slowest = ms, fastest = ms
SELECT moment, slowest_ms AS slowest, fastest_ms AS fastest
FROM mart.recent_latency
ORDER BY moment
