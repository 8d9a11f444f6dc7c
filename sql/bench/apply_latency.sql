-- One row: how many invoices of these numbers Kafka took in the time from %(start)s on, and the percentiles of their
-- latency from the Kafka record's timestamp to the commit in PostgreSQL (track_commit_timestamp), in milliseconds.
SELECT count(*),
       percentile_disc(0.50) WITHIN GROUP (ORDER BY ms),
       percentile_disc(0.95) WITHIN GROUP (ORDER BY ms),
       percentile_disc(0.99) WITHIN GROUP (ORDER BY ms),
       max(ms)
FROM (
    SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)::float8 AS ms
    FROM mart.invoice
    WHERE kafka_timestamp >= %(start)s
      AND kafka_timestamp < %(start)s + make_interval(secs => %(seconds)s)
) measured
