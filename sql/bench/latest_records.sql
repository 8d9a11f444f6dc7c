-- Rows whose newest record Kafka took from %(start)s on: the customer, that record's timestamp, and its way from there to
-- the commit that made it visible (track_commit_timestamp), in milliseconds.
SELECT customer_id, newest_record, 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - newest_record)::float8
FROM peer.customer
WHERE newest_record >= %(start)s
