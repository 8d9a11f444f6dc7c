-- One row a minute from `start` on, of the invoices that Kafka took before `until` seconds: minute (0 the first),
-- invoices, p50 and p99 of their latency from the Kafka record's timestamp to the commit in PostgreSQL
-- (track_commit_timestamp), milliseconds.
SELECT floor(extract(epoch FROM kafka_timestamp - %(start)s) / 60)::integer AS minute,
       count(*) AS invoices,
       percentile_disc(0.50) WITHIN GROUP (ORDER BY ms) AS p50,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY ms) AS p99
FROM (
    SELECT kafka_timestamp, 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)::float8 AS ms
    FROM mart.invoice
    WHERE kafka_timestamp >= %(start)s AND kafka_timestamp < %(start)s + make_interval(secs => %(until)s)
) measured
GROUP BY minute
ORDER BY minute
