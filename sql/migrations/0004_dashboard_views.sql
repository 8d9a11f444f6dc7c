-- What the dashboards ask: running totals, traffic and latency by time, newest moves, quarantine; and a signal a batch.

ALTER TABLE mart.batch ADD COLUMN purchased numeric(38, 2), ADD COLUMN returned numeric(38, 2);
COMMENT ON COLUMN mart.batch.purchased IS 'Sum of purchased over the invoices applied; null in batches older than this column.';
COMMENT ON COLUMN mart.batch.returned IS 'Sum of returned over the invoices applied; null in batches older than this column.';
CREATE INDEX batch_by_time ON mart.batch (applied_at);

CREATE TABLE mart.stream_total (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    batches    bigint NOT NULL,
    invoices   bigint NOT NULL,
    duplicates bigint NOT NULL,
    rejected   bigint NOT NULL,
    purchased  numeric(38, 2) NOT NULL,
    returned   numeric(38, 2) NOT NULL
);
COMMENT ON TABLE mart.stream_total IS 'One row: the sums over mart.batch, kept so that nobody needs to read it from its start.';
COMMENT ON COLUMN mart.stream_total.only_row IS 'Always true: there is one shop.';
COMMENT ON COLUMN mart.stream_total.batches IS 'Batches committed.';
COMMENT ON COLUMN mart.stream_total.invoices IS 'Invoices applied.';
COMMENT ON COLUMN mart.stream_total.duplicates IS 'Records whose invoice was applied before, with the same content.';
COMMENT ON COLUMN mart.stream_total.rejected IS 'Records quarantined.';
COMMENT ON COLUMN mart.stream_total.purchased IS 'Sum of purchased over all applied invoices.';
COMMENT ON COLUMN mart.stream_total.returned IS 'Sum of returned over all applied invoices: zero or negative.';

-- The ALTER above waited for running batches and keeps new ones waiting, so nothing slips between sum and trigger.
INSERT INTO mart.stream_total (batches, invoices, duplicates, rejected, purchased, returned)
SELECT batch.batches, invoice.invoices, batch.duplicates, batch.rejected, invoice.purchased, invoice.returned
FROM (
    SELECT count(*) AS batches, coalesce(sum(duplicates), 0) AS duplicates, coalesce(sum(rejected), 0) AS rejected
    FROM mart.batch
) batch
CROSS JOIN (
    SELECT count(*) AS invoices, coalesce(sum(purchased), 0) AS purchased, coalesce(sum(returned), 0) AS returned
    FROM mart.invoice
) invoice;

CREATE FUNCTION mart.count_batch() RETURNS trigger
LANGUAGE plpgsql
SET search_path = mart, pg_temp
AS $$
BEGIN
    UPDATE stream_total
    SET batches    = batches + 1,
        invoices   = invoices + NEW.invoices,
        duplicates = duplicates + NEW.duplicates,
        rejected   = rejected + NEW.rejected,
        purchased  = purchased + coalesce(NEW.purchased, 0),
        returned   = returned + coalesce(NEW.returned, 0);
    PERFORM pg_notify('mart_batch', NEW.id::text);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mart.count_batch IS
    'After a batch: add it to the totals, and tell those who LISTEN to mart_batch, once the transaction commits.';
CREATE TRIGGER count_batch AFTER INSERT ON mart.batch FOR EACH ROW EXECUTE FUNCTION mart.count_batch();

CREATE VIEW mart.stream_status AS
SELECT total.invoices,
       total.duplicates,
       total.rejected,
       total.purchased + CASE WHEN shop.returns_policy = 'net' THEN total.returned ELSE 0 END AS revenue,
       coalesce(recent.invoices / 10.0, 0) AS invoices_per_second,
       coalesce(recent.slowest_ms, round(1000 * extract(epoch FROM last.applied_at - last.oldest_kafka_timestamp)))
           AS latency_ms,
       CASE WHEN job.connected THEN round(1000 * extract(epoch FROM last.applied_at - last.newest_kafka_timestamp))
            ELSE round(1000 * extract(epoch FROM now() - last.newest_kafka_timestamp)) END AS behind_ms,
       last.applied_at AS last_batch_at,
       round(1000 * extract(epoch FROM now() - last.applied_at)) AS since_batch_ms,
       shop.newest_invoice_date,
       shop.time_zone,
       writer.topic AS writer_topic,
       writer.epoch AS writer_epoch,
       writer.application AS writer_application,
       writer.started_at AS writer_started_at,
       job.connected AS writer_connected
FROM mart.stream_total total
CROSS JOIN (
    SELECT count(*) > 0 AS connected
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'retail-mart streaming'
) job
LEFT JOIN mart.shop ON true
LEFT JOIN LATERAL (SELECT * FROM mart.batch ORDER BY id DESC LIMIT 1) last ON true
LEFT JOIN LATERAL (
    SELECT sum(invoices) AS invoices, max(oldest_latency_ms) AS slowest_ms
    FROM mart.stream_batch
    WHERE applied_at > now() - interval '10 seconds'
) recent ON true
LEFT JOIN LATERAL (SELECT * FROM mart.stream_writer ORDER BY started_at DESC LIMIT 1) writer ON true;
COMMENT ON VIEW mart.stream_status IS 'One row: what the stream has applied in all, how fast and how far behind it is now, and who writes.';
COMMENT ON COLUMN mart.stream_status.revenue IS 'Sum over all applied invoices, less returns under the policy net.';
COMMENT ON COLUMN mart.stream_status.invoices_per_second IS 'Over the last 10 seconds.';
COMMENT ON COLUMN mart.stream_status.latency_ms IS 'From Kafka timestamp to write, the slowest record of the last 10 seconds'' batches, else of the last batch.';
COMMENT ON COLUMN mart.stream_status.behind_ms IS 
    'How old the newest record of the last batch was when written: how far the stream ran behind its topic. While no job '
    'is connected: how old it is now, for what was produced since then is not applied.';
COMMENT ON COLUMN mart.stream_status.writer_connected IS 'Whether a streaming job is connected to this database now.';

CREATE VIEW mart.recent_minute AS
SELECT minute,
       coalesce(b.invoices, 0)::bigint AS invoices,
       coalesce(b.purchased + CASE WHEN shop.returns_policy = 'net' THEN b.returned ELSE 0 END, 0) AS revenue,
       coalesce(b.rejected, 0)::bigint AS rejected
FROM generate_series(date_trunc('minute', now()) - interval '59 minutes', now(), interval '1 minute') minute
LEFT JOIN mart.shop ON true
LEFT JOIN (
    SELECT date_trunc('minute', applied_at) AS minute, sum(invoices) AS invoices, sum(purchased) AS purchased,
           sum(returned) AS returned, sum(rejected) AS rejected
    FROM mart.batch
    WHERE applied_at >= date_trunc('minute', now()) - interval '59 minutes'
    GROUP BY 1
) b USING (minute);
COMMENT ON VIEW mart.recent_minute IS 'One row a minute of the last hour, by the time of applying, the running minute last; also minutes without traffic.';

CREATE VIEW mart.recent_latency AS
SELECT moment,
       CASE WHEN moment <= now() - interval '5 seconds' THEN coalesce(b.invoices, 0) / 5.0 END AS invoices_per_second,
       b.fastest_ms,
       b.slowest_ms
FROM generate_series(
         date_bin('5 seconds', now(), 'epoch') - interval '9 minutes 55 seconds', now(), interval '5 seconds'
     ) moment
LEFT JOIN (
    SELECT date_bin('5 seconds', applied_at, 'epoch') AS moment, sum(invoices) AS invoices,
           min(newest_latency_ms) AS fastest_ms, max(oldest_latency_ms) AS slowest_ms
    FROM mart.stream_batch
    WHERE applied_at >= date_bin('5 seconds', now(), 'epoch') - interval '9 minutes 55 seconds'
    GROUP BY 1
) b USING (moment);
COMMENT ON VIEW mart.recent_latency IS 'One row each 5 seconds of the last 10 minutes: invoices applied a second, latency of the fastest and the slowest record.';
COMMENT ON COLUMN mart.recent_latency.invoices_per_second IS 'Null in the running 5 seconds, which are not over.';
COMMENT ON COLUMN mart.recent_latency.fastest_ms IS 'Least time from Kafka timestamp to write, milliseconds; null without a batch.';
COMMENT ON COLUMN mart.recent_latency.slowest_ms IS 'Most time from Kafka timestamp to write, milliseconds; null without a batch.';

CREATE VIEW mart.segment_move AS
SELECT id, changed_at, event_time, customer_id, from_segment, to_segment, cause, invoice,
       from_r, from_f, from_m, to_r, to_f, to_m
FROM mart.segment_change;
COMMENT ON VIEW mart.segment_move IS 'One row each time a customer entered or changed a segment; the newest has the highest id.';

CREATE VIEW mart.quarantine_count AS
SELECT reason.reason, reason.meaning, coalesce(rejected.records, 0) AS records, rejected.newest_at
FROM mart.reject_reason reason
LEFT JOIN LATERAL (
    SELECT count(*) AS records, max(rejected_at) AS newest_at
    FROM mart.rejected_invoice r
    WHERE r.reason = reason.reason
) rejected ON true;
COMMENT ON VIEW mart.quarantine_count IS 'One row a reason, also those that never occurred: records quarantined for it, and when the newest was.';

CREATE VIEW mart.score_count AS
SELECT s.r, s.f, coalesce(sum(t.customers), 0)::bigint AS customers, coalesce(sum(t.monetary), 0) AS monetary
FROM mart.segment_score s
LEFT JOIN mart.score_total t USING (r, f, m)
GROUP BY s.r, s.f;
COMMENT ON VIEW mart.score_count IS 'One row a pair of recency and frequency score: customers now in it and what they spent in all.';

GRANT SELECT, UPDATE ON mart.stream_total TO mart_writer;
GRANT SELECT ON mart.stream_status, mart.recent_minute, mart.recent_latency, mart.segment_move,
    mart.quarantine_count, mart.score_count TO mart_writer, analytics_reader;
