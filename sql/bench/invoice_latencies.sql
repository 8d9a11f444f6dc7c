-- Invoices that Kafka took in the time from %(start)s on: their way from the record's timestamp to the commit that made
-- them visible (track_commit_timestamp), in milliseconds.
SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)::float8
FROM mart.invoice
WHERE kafka_timestamp >= %(start)s
  AND kafka_timestamp < %(start)s + make_interval(secs => %(seconds)s)
