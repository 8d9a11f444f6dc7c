-- One row: invoices produced between two moments (seconds after `start`), and p50, p90, p99 and maximum of their
-- latency from the Kafka record's timestamp to the commit in PostgreSQL (track_commit_timestamp), milliseconds.
SELECT count(*) AS invoices,
       percentile_disc(ARRAY[0.5, 0.9, 0.99, 1.0]) WITHIN GROUP (
           ORDER BY 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)
       ) AS percentiles
FROM mart.invoice
WHERE kafka_timestamp >= %(start)s + make_interval(secs => %(after)s)
  AND kafka_timestamp < %(start)s + make_interval(secs => %(until)s)
