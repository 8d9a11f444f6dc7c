-- The mart: facts, positions, quarantine, scores. Run as the database's owner.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mart_writer') THEN
        CREATE ROLE mart_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_reader') THEN
        CREATE ROLE analytics_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'roles mart_writer and analytics_reader are missing and % may not create them', current_user
            USING HINT = 'As a superuser: CREATE ROLE mart_writer; CREATE ROLE analytics_reader;';
    WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server is being migrated now
END
$$;

CREATE SCHEMA mart;
COMMENT ON SCHEMA mart IS 'Customer-centric retail mart, kept current by the streaming job.';

CREATE TABLE mart.invoice (
    invoice         text COLLATE "C" PRIMARY KEY,
    invoice_date    timestamp NOT NULL,
    customer_id     text COLLATE "C",
    line_count      integer NOT NULL CHECK (line_count > 0),
    counting_lines  integer NOT NULL CHECK (counting_lines BETWEEN 0 AND line_count),
    purchased       numeric(38, 2) NOT NULL CHECK (purchased BETWEEN 0 AND 1e35),
    returned        numeric(38, 2) NOT NULL CHECK (returned BETWEEN -1e35 AND 0),
    content_sha256  bytea NOT NULL CHECK (length(content_sha256) = 32),
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    kafka_timestamp timestamptz NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX invoice_of_customer ON mart.invoice (customer_id, invoice_date) WHERE customer_id IS NOT NULL;
COMMENT ON TABLE mart.invoice IS 'One row an applied invoice: the idempotency key and the fact.';
COMMENT ON COLUMN mart.invoice.invoice IS 'Invoice number, as the store gave it.';
COMMENT ON COLUMN mart.invoice.invoice_date IS 'When it was written, in the shop''s local time.';
COMMENT ON COLUMN mart.invoice.customer_id IS 'Customer, null where the store did not know.';
COMMENT ON COLUMN mart.invoice.line_count IS 'Lines of the invoice, counting or not.';
COMMENT ON COLUMN mart.invoice.counting_lines IS 'Lines that count (conf/line_rules.toml).';
COMMENT ON COLUMN mart.invoice.purchased IS 'Sum of quantity x price over the counting lines, in the shop''s currency.';
COMMENT ON COLUMN mart.invoice.returned IS 'Sum of quantity x price over returned product lines: zero or negative.';
COMMENT ON COLUMN mart.invoice.content_sha256 IS 'Digest of the content; the same number with another digest is a conflict.';
COMMENT ON COLUMN mart.invoice.kafka_partition IS 'Partition of the record that was applied.';
COMMENT ON COLUMN mart.invoice.kafka_offset IS 'Offset of the record that was applied.';
COMMENT ON COLUMN mart.invoice.kafka_timestamp IS 'Kafka''s record timestamp: when it was produced.';
COMMENT ON COLUMN mart.invoice.applied_at IS 'When the row was written, just before its commit.';

CREATE TABLE mart.segment_score (
    r       smallint NOT NULL CHECK (r BETWEEN 1 AND 5),
    f       smallint NOT NULL CHECK (f BETWEEN 1 AND 5),
    m       smallint NOT NULL CHECK (m BETWEEN 1 AND 5),
    segment text NOT NULL,
    PRIMARY KEY (r, f, m)
);
COMMENT ON TABLE mart.segment_score IS 'The segment of each combination of scores, filled from conf/segments.toml.';
COMMENT ON COLUMN mart.segment_score.r IS 'Recency score, 5 = bought last.';
COMMENT ON COLUMN mart.segment_score.f IS 'Frequency score, 5 = most invoices.';
COMMENT ON COLUMN mart.segment_score.m IS 'Monetary score, 5 = most spent.';
COMMENT ON COLUMN mart.segment_score.segment IS 'Name of the segment.';

CREATE TABLE mart.customer (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    customer_id   text COLLATE "C" PRIMARY KEY,
    last_purchase timestamp,
    frequency     bigint NOT NULL CHECK (frequency >= 0),
    monetary      numeric(38, 2) NOT NULL CHECK (monetary BETWEEN -1e35 AND 1e35),
    r             smallint CHECK (r BETWEEN 1 AND 5),
    f             smallint CHECK (f BETWEEN 1 AND 5),
    m             smallint CHECK (m BETWEEN 1 AND 5),
    segment       text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((frequency = 0) = (last_purchase IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE mart.customer IS 'One row a customer with at least one counting (or, under `net`, returned) line.';
COMMENT ON COLUMN mart.customer.id IS 'Surrogate key, in order of first appearance.';
COMMENT ON COLUMN mart.customer.customer_id IS 'Customer, as in the event.';
COMMENT ON COLUMN mart.customer.last_purchase IS 'Newest invoice date with a counting line, shop''s local time; null while only returns are known.';
COMMENT ON COLUMN mart.customer.frequency IS 'Distinct invoices with at least one counting line.';
COMMENT ON COLUMN mart.customer.monetary IS 'Sum of quantity x price of counting lines; under `net`, less the returns.';
COMMENT ON COLUMN mart.customer.r IS 'Recency score 1-5: ntile over (date of last purchase, customer_id).';
COMMENT ON COLUMN mart.customer.f IS 'Frequency score 1-5: ntile over (frequency, customer_id).';
COMMENT ON COLUMN mart.customer.m IS 'Monetary score 1-5: ntile over (monetary, customer_id).';
COMMENT ON COLUMN mart.customer.segment IS 'Segment of (r, f, m); null while frequency is 0.';
COMMENT ON COLUMN mart.customer.created_at IS 'First time the customer was written.';
COMMENT ON COLUMN mart.customer.updated_at IS 'Last time a purchase or a score changed.';

CREATE TABLE mart.segment_change (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id  text COLLATE "C" NOT NULL,
    from_segment text,
    to_segment   text NOT NULL,
    from_r       smallint,
    from_f       smallint,
    from_m       smallint,
    to_r         smallint NOT NULL,
    to_f         smallint NOT NULL,
    to_m         smallint NOT NULL,
    cause        text NOT NULL CHECK (cause IN ('own purchase', 'overtaken')),
    invoice      text,
    event_time   timestamp NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX segment_change_of_customer ON mart.segment_change (customer_id, id);
CREATE INDEX segment_change_by_time ON mart.segment_change USING brin (changed_at);
COMMENT ON TABLE mart.segment_change IS 'One row each time a customer enters or changes a segment.';
COMMENT ON COLUMN mart.segment_change.id IS 'Order of the changes.';
COMMENT ON COLUMN mart.segment_change.customer_id IS 'Who moved.';
COMMENT ON COLUMN mart.segment_change.from_segment IS 'Segment before, null for a new customer.';
COMMENT ON COLUMN mart.segment_change.to_segment IS 'Segment after.';
COMMENT ON COLUMN mart.segment_change.from_r IS 'Recency score before.';
COMMENT ON COLUMN mart.segment_change.from_f IS 'Frequency score before.';
COMMENT ON COLUMN mart.segment_change.from_m IS 'Monetary score before.';
COMMENT ON COLUMN mart.segment_change.to_r IS 'Recency score after.';
COMMENT ON COLUMN mart.segment_change.to_f IS 'Frequency score after.';
COMMENT ON COLUMN mart.segment_change.to_m IS 'Monetary score after.';
COMMENT ON COLUMN mart.segment_change.cause IS 'own purchase, or overtaken: others moved the tile''s boundary.';
COMMENT ON COLUMN mart.segment_change.invoice IS 'Newest invoice of the customer in the batch, for an own purchase.';
COMMENT ON COLUMN mart.segment_change.event_time IS 'Newest invoice date that the mart knew then.';
COMMENT ON COLUMN mart.segment_change.changed_at IS 'When the change was written, just before its commit.';

CREATE TABLE mart.shop (
    only_row            boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    returns_policy      text NOT NULL CHECK (returns_policy IN ('ignore', 'net')),
    recency_clock       text NOT NULL CHECK (recency_clock IN ('event', 'wall')),
    time_zone           text NOT NULL,
    newest_invoice_date timestamp
);
COMMENT ON TABLE mart.shop IS 'One row: the rules that the mart''s figures were made with, and its event clock.';
COMMENT ON COLUMN mart.shop.only_row IS 'Always true: there is one shop.';
COMMENT ON COLUMN mart.shop.returns_policy IS 'ignore, or net: returns lower monetary.';
COMMENT ON COLUMN mart.shop.recency_clock IS 'As-of date of recency: event (newest invoice) or wall (today).';
COMMENT ON COLUMN mart.shop.time_zone IS 'IANA zone of the shop''s local times.';
COMMENT ON COLUMN mart.shop.newest_invoice_date IS 'Newest invoice date applied, shop''s local time.';

CREATE TABLE mart.stream_writer (
    topic       text PRIMARY KEY,
    epoch       bigint NOT NULL CHECK (epoch > 0),
    application text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mart.stream_writer IS 'Who may write: the job with the newest epoch; older ones are fenced.';
COMMENT ON COLUMN mart.stream_writer.topic IS 'Topic that is applied.';
COMMENT ON COLUMN mart.stream_writer.epoch IS 'Grows by one at each start of a job.';
COMMENT ON COLUMN mart.stream_writer.application IS 'Host and process of that job.';
COMMENT ON COLUMN mart.stream_writer.started_at IS 'When it took over.';

CREATE TABLE mart.stream_position (
    topic_id     uuid NOT NULL,
    topic        text NOT NULL,
    "partition"  integer NOT NULL CHECK ("partition" >= 0),
    next_offset  bigint NOT NULL CHECK (next_offset >= 0),
    writer_epoch bigint NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, "partition")
);
COMMENT ON TABLE mart.stream_position IS 'How far each partition is applied; written in the transaction that applies it.';
COMMENT ON COLUMN mart.stream_position.topic_id IS 'Kafka''s id of the topic: a re-created topic has another.';
COMMENT ON COLUMN mart.stream_position.topic IS 'Name of the topic.';
COMMENT ON COLUMN mart.stream_position."partition" IS 'Partition.';
COMMENT ON COLUMN mart.stream_position.next_offset IS 'First offset that is not applied yet.';
COMMENT ON COLUMN mart.stream_position.writer_epoch IS 'Epoch of the job that moved it last.';
COMMENT ON COLUMN mart.stream_position.updated_at IS 'When it moved last.';

CREATE TABLE mart.reject_reason (
    reason  text PRIMARY KEY,
    meaning text NOT NULL
);
COMMENT ON TABLE mart.reject_reason IS 'Why a record can be quarantined.';
COMMENT ON COLUMN mart.reject_reason.reason IS 'Short name.';
COMMENT ON COLUMN mart.reject_reason.meaning IS 'What was wrong.';

CREATE TABLE mart.rejected_invoice (
    topic_id        uuid NOT NULL,
    topic           text NOT NULL,
    "partition"     integer NOT NULL,
    "offset"        bigint NOT NULL,
    kafka_timestamp timestamptz NOT NULL,
    reason          text NOT NULL REFERENCES mart.reject_reason,
    detail          text NOT NULL,
    raw             bytea,
    rejected_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic_id, "partition", "offset")
);
CREATE INDEX rejected_invoice_by_reason ON mart.rejected_invoice (reason, rejected_at);
COMMENT ON TABLE mart.rejected_invoice IS 'Quarantine: one row a record that was not applied.';
COMMENT ON COLUMN mart.rejected_invoice.topic_id IS 'Kafka''s id of the topic.';
COMMENT ON COLUMN mart.rejected_invoice.topic IS 'Name of the topic.';
COMMENT ON COLUMN mart.rejected_invoice."partition" IS 'Partition of the record.';
COMMENT ON COLUMN mart.rejected_invoice."offset" IS 'Offset of the record.';
COMMENT ON COLUMN mart.rejected_invoice.kafka_timestamp IS 'Kafka''s record timestamp.';
COMMENT ON COLUMN mart.rejected_invoice.reason IS 'Why (mart.reject_reason).';
COMMENT ON COLUMN mart.rejected_invoice.detail IS 'The field and the value that were refused.';
COMMENT ON COLUMN mart.rejected_invoice.raw IS 'The record''s value, byte for byte; null where it had none.';
COMMENT ON COLUMN mart.rejected_invoice.rejected_at IS 'When it was quarantined.';

CREATE TABLE mart.batch (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic                  text NOT NULL,
    writer_epoch           bigint NOT NULL,
    started_at             timestamptz NOT NULL,
    applied_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    records                integer NOT NULL CHECK (records >= 0),
    invoices               integer NOT NULL CHECK (invoices >= 0),
    duplicates             integer NOT NULL CHECK (duplicates >= 0),
    rejected               integer NOT NULL CHECK (rejected >= 0),
    oldest_kafka_timestamp timestamptz,
    newest_kafka_timestamp timestamptz,
    CHECK (records = invoices + duplicates + rejected)
);
COMMENT ON TABLE mart.batch IS 'One row a committed micro-batch: every record is an applied invoice, a duplicate or rejected.';
COMMENT ON COLUMN mart.batch.id IS 'Order of the batches.';
COMMENT ON COLUMN mart.batch.topic IS 'Topic that was read.';
COMMENT ON COLUMN mart.batch.writer_epoch IS 'Epoch of the job that wrote it.';
COMMENT ON COLUMN mart.batch.started_at IS 'When the job began to work on it.';
COMMENT ON COLUMN mart.batch.applied_at IS 'When its last row was written, just before its commit.';
COMMENT ON COLUMN mart.batch.records IS 'Records at or after the mart''s positions.';
COMMENT ON COLUMN mart.batch.invoices IS 'Invoices applied.';
COMMENT ON COLUMN mart.batch.duplicates IS 'Records whose invoice was applied before, with the same content.';
COMMENT ON COLUMN mart.batch.rejected IS 'Records quarantined.';
COMMENT ON COLUMN mart.batch.oldest_kafka_timestamp IS 'Oldest record timestamp in it.';
COMMENT ON COLUMN mart.batch.newest_kafka_timestamp IS 'Newest record timestamp in it.';

CREATE VIEW mart.as_of AS
SELECT CASE recency_clock WHEN 'wall' THEN (now() AT TIME ZONE time_zone)::date ELSE newest_invoice_date::date END
           AS as_of_date,
       recency_clock,
       time_zone,
       returns_policy,
       newest_invoice_date
FROM mart.shop;
COMMENT ON VIEW mart.as_of IS 'One row: the date that recency is measured to (today in the shop, or the newest invoice''s), and the rules.';

CREATE VIEW mart.customer_segmentation AS
SELECT c.id,
       c.customer_id,
       (SELECT as_of_date FROM mart.as_of) - c.last_purchase::date AS recency,
       c.frequency,
       c.monetary,
       c.segment AS customer_segment,
       c.created_at,
       c.updated_at,
       c.last_purchase,
       c.r,
       c.f,
       c.m
FROM mart.customer c
WHERE c.frequency > 0;
COMMENT ON VIEW mart.customer_segmentation IS 'One row a customer: recency (whole days), frequency, monetary, scores, segment.';
COMMENT ON COLUMN mart.customer_segmentation.recency IS 'Whole days from the last purchase to the as-of date.';

CREATE VIEW mart.segment_count AS
SELECT s.segment AS customer_segment,
       count(c.customer_id) AS customers,
       coalesce(sum(c.monetary), 0) AS monetary
FROM (SELECT DISTINCT segment FROM mart.segment_score) s
LEFT JOIN mart.customer c ON c.segment = s.segment AND c.frequency > 0
GROUP BY s.segment;
COMMENT ON VIEW mart.segment_count IS 'One row a segment, also the empty ones: customers now in it and what they spent in all.';

CREATE VIEW mart.stream_batch AS
SELECT id,
       topic,
       applied_at,
       records,
       invoices,
       duplicates,
       rejected,
       round(1000 * extract(epoch FROM applied_at - started_at), 1) AS apply_ms,
       round(1000 * extract(epoch FROM applied_at - newest_kafka_timestamp)) AS newest_latency_ms,
       round(1000 * extract(epoch FROM applied_at - oldest_kafka_timestamp)) AS oldest_latency_ms
FROM mart.batch;
COMMENT ON VIEW mart.stream_batch IS 'One row a committed micro-batch: what it did, how long it took, how old its records were when written.';
COMMENT ON COLUMN mart.stream_batch.newest_latency_ms IS 'From the newest record''s Kafka timestamp to the write, milliseconds.';
COMMENT ON COLUMN mart.stream_batch.oldest_latency_ms IS 'From the oldest record''s Kafka timestamp to the write, milliseconds.';

GRANT USAGE ON SCHEMA mart TO mart_writer, analytics_reader;
GRANT SELECT, INSERT ON mart.invoice, mart.segment_change, mart.rejected_invoice, mart.batch TO mart_writer;
GRANT SELECT, INSERT, UPDATE ON mart.customer, mart.shop, mart.stream_writer TO mart_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON mart.stream_position TO mart_writer;
GRANT SELECT ON mart.segment_score, mart.reject_reason TO mart_writer;
GRANT SELECT ON mart.as_of, mart.customer_segmentation, mart.segment_count, mart.stream_batch TO mart_writer, analytics_reader;
