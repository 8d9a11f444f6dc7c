-- title: Latency, Kafka to mart
-- group: operations
-- chart: line
-- description: Time from a record's Kafka timestamp to its write, for the fastest and the slowest record of every 5 seconds in the last 10 minutes; a gap is a time without a batch.
-- refresh: 1 s
-- columns: moment timestamptz, slowest numeric, fastest numeric
-- unit: slowest = ms, fastest = ms
SELECT moment, slowest_ms AS slowest, fastest_ms AS fastest
FROM mart.recent_latency
ORDER BY moment
