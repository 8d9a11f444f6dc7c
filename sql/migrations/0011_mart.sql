-- The mart as 0.1.0 made it by its migrations 1 to 11, of which this is number 11: a mart that has applied those goes on
-- from here (mart/migrate.py), any other begins with this. Run as the database's owner.

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

-- What was sold, to whom.

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
-- The newest date up to a limit is one look at its end, and so are the invoices beyond it.
CREATE INDEX invoice_by_date ON mart.invoice (invoice_date);
COMMENT ON TABLE mart.invoice IS 'One row an applied invoice: the idempotency key and the fact.';
COMMENT ON COLUMN mart.invoice.invoice IS 'Invoice number, as the store gave it.';
COMMENT ON COLUMN mart.invoice.invoice_date IS 'When it was written, in the shop''s local time.';
COMMENT ON COLUMN mart.invoice.customer_id IS 'Customer; null where the store did not know, and where the customer was erased.';
COMMENT ON COLUMN mart.invoice.line_count IS 'Lines of the invoice, counting or not.';
COMMENT ON COLUMN mart.invoice.counting_lines IS 'Lines that count (conf/line_rules.toml).';
COMMENT ON COLUMN mart.invoice.purchased IS 'Sum of quantity x price over the counting lines, in the shop''s currency.';
COMMENT ON COLUMN mart.invoice.returned IS 'Sum of quantity x price over returned product lines: zero or negative.';
COMMENT ON COLUMN mart.invoice.content_sha256 IS
    'Digest of the content; the same number with another digest is a conflict. 32 zero bytes where the customer was '
    'erased: the digest was of the customer''s id, too, and could be tried out.';
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

-- A cut passes customers of neighbouring ids, and with them whole pages: half a page of room keeps their new scores there
-- (HOT), without new entries in four indexes.
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
) WITH (fillfactor = 50);
CREATE INDEX customer_by_last_purchase ON mart.customer ((last_purchase::date), customer_id) WHERE frequency > 0;
CREATE INDEX customer_by_frequency ON mart.customer (frequency, customer_id) WHERE frequency > 0;
CREATE INDEX customer_by_monetary ON mart.customer (monetary, customer_id) WHERE frequency > 0;
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
    cause        text NOT NULL CHECK (
        cause IN ('own purchase', 'own return', 'overtaken', 'definition changed', 'policy changed', 'repaired')
    ),
    invoice      text,
    event_time   timestamp NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Without the id: a customer's moves are few and can be put in order when they are asked for, and equal keys share an
-- entry, where else each batch writes thousands of random places of an index that is twice as large.
CREATE INDEX segment_change_of_customer ON mart.segment_change (customer_id);
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
COMMENT ON COLUMN mart.segment_change.cause IS
    'own purchase; own return (policy net); overtaken: others moved a cut; definition changed: '
    'conf/segments.toml did; policy changed: RETURNS_POLICY did; repaired: the self-check found a wrong score.';
COMMENT ON COLUMN mart.segment_change.invoice IS 'Newest invoice of the customer in the batch, for an own purchase or return.';
COMMENT ON COLUMN mart.segment_change.event_time IS 'Newest invoice date that the mart knew then.';
COMMENT ON COLUMN mart.segment_change.changed_at IS 'When the change was written, just before its commit.';

CREATE TABLE mart.shop (
    only_row            boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    returns_policy      text NOT NULL CHECK (returns_policy IN ('ignore', 'net')),
    recency_clock       text NOT NULL CHECK (recency_clock IN ('event', 'wall')),
    time_zone           text NOT NULL,
    newest_invoice_date timestamp,
    clock_limit         timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC') + interval '1 day'
);
COMMENT ON TABLE mart.shop IS 'One row: the rules that the mart''s figures were made with, and its event clock.';
COMMENT ON COLUMN mart.shop.only_row IS 'Always true: there is one shop.';
COMMENT ON COLUMN mart.shop.returns_policy IS 'ignore, or net: returns lower monetary.';
COMMENT ON COLUMN mart.shop.recency_clock IS 'As-of date of recency: event (newest invoice) or wall (today).';
COMMENT ON COLUMN mart.shop.time_zone IS 'IANA zone of the shop''s local times.';
COMMENT ON COLUMN mart.shop.newest_invoice_date IS 'Newest invoice date applied, up to clock_limit; shop''s local time.';
COMMENT ON COLUMN mart.shop.clock_limit IS
    'A day after PostgreSQL''s clock when the last batch was applied, shop''s local time: an invoice dated later does not '
    'move newest_invoice_date yet.';

-- What the stream read, and how far.

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

CREATE TABLE mart.next_offset (
    topic_id     uuid NOT NULL,
    topic        text NOT NULL,
    "partition"  integer NOT NULL CHECK ("partition" >= 0),
    next_offset  bigint NOT NULL CHECK (next_offset >= 0),
    writer_epoch bigint NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, "partition")
);
COMMENT ON TABLE mart.next_offset IS 'How far each partition is applied; written in the transaction that applies it.';
COMMENT ON COLUMN mart.next_offset.topic_id IS 'Kafka''s id of the topic: a re-created topic has another.';
COMMENT ON COLUMN mart.next_offset.topic IS 'Name of the topic.';
COMMENT ON COLUMN mart.next_offset."partition" IS 'Partition.';
COMMENT ON COLUMN mart.next_offset.next_offset IS 'First offset that is not applied yet.';
COMMENT ON COLUMN mart.next_offset.writer_epoch IS 'Epoch of the job that moved it last.';
COMMENT ON COLUMN mart.next_offset.updated_at IS 'When it moved last.';

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
    outcome         text CHECK (outcome IN ('redriven', 'in the mart already', 'erased', 'pruned')),
    settled_at      timestamptz,
    PRIMARY KEY (topic_id, "partition", "offset"),
    CHECK ((outcome IS NULL) = (settled_at IS NULL))
);
CREATE INDEX rejected_invoice_by_reason ON mart.rejected_invoice (reason, rejected_at);
CREATE INDEX rejected_invoice_open ON mart.rejected_invoice (topic, topic_id, "partition", "offset") WHERE outcome IS NULL;
COMMENT ON TABLE mart.rejected_invoice IS 'Quarantine: one row a record that was not applied.';
COMMENT ON COLUMN mart.rejected_invoice.topic_id IS 'Kafka''s id of the topic.';
COMMENT ON COLUMN mart.rejected_invoice.topic IS 'Name of the topic.';
COMMENT ON COLUMN mart.rejected_invoice."partition" IS 'Partition of the record.';
COMMENT ON COLUMN mart.rejected_invoice."offset" IS 'Offset of the record.';
COMMENT ON COLUMN mart.rejected_invoice.kafka_timestamp IS 'Kafka''s record timestamp.';
COMMENT ON COLUMN mart.rejected_invoice.reason IS 'Why (mart.reject_reason), by the rules of the last try.';
COMMENT ON COLUMN mart.rejected_invoice.detail IS 'The field and the value that were refused.';
COMMENT ON COLUMN mart.rejected_invoice.raw IS
    'The record''s value, byte for byte; null where it had none, and where it was erased or pruned.';
COMMENT ON COLUMN mart.rejected_invoice.rejected_at IS 'When it was quarantined.';
COMMENT ON COLUMN mart.rejected_invoice.outcome IS
    'Null while it waits. redriven: its value was sent to the topic again; in the mart already: an invoice of this number '
    'and content was applied meanwhile; erased: its value was of a customer who asked for erasure, and is gone; pruned: its '
    'value went by age, and the rest stays because `verify` needs to know which copies in the lake were refused.';
COMMENT ON COLUMN mart.rejected_invoice.settled_at IS 'When.';

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
    purchased              numeric(38, 2),
    returned               numeric(38, 2),
    CHECK (records = invoices + duplicates + rejected)
);
CREATE INDEX batch_by_time ON mart.batch (applied_at);
COMMENT ON TABLE mart.batch IS 'One row a committed micro-batch: every record is an applied invoice, a duplicate or rejected.';
COMMENT ON COLUMN mart.batch.id IS 'Order of the batches.';
COMMENT ON COLUMN mart.batch.topic IS 'Topic that was read.';
COMMENT ON COLUMN mart.batch.writer_epoch IS 'Epoch of the job that wrote it.';
COMMENT ON COLUMN mart.batch.started_at IS 'When the job began to work on it.';
COMMENT ON COLUMN mart.batch.applied_at IS 'When its last row was written, just before its commit.';
COMMENT ON COLUMN mart.batch.records IS 'Records at or after the mart''s next offsets.';
COMMENT ON COLUMN mart.batch.invoices IS 'Invoices applied.';
COMMENT ON COLUMN mart.batch.duplicates IS 'Records whose invoice was applied before, with the same content.';
COMMENT ON COLUMN mart.batch.rejected IS 'Records quarantined.';
COMMENT ON COLUMN mart.batch.oldest_kafka_timestamp IS 'Oldest record timestamp in it.';
COMMENT ON COLUMN mart.batch.newest_kafka_timestamp IS 'Newest record timestamp in it.';
COMMENT ON COLUMN mart.batch.purchased IS 'Sum of purchased over the invoices applied; null in batches older than this column.';
COMMENT ON COLUMN mart.batch.returned IS 'Sum of returned over the invoices applied; null in batches older than this column.';

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
INSERT INTO mart.stream_total VALUES (true, 0, 0, 0, 0, 0, 0);

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

-- Scores kept exact at a cost that does not grow with the customers, counts kept by deltas, and their history.
--
-- Quintile q (1-4) of a metric ends at rank E_q = q * (n / 5) + least(q, n % 5) of the n scored customers in the order
-- of (metric, customer_id). Its cut is the key at that rank: a customer's score is 1 plus the number of cuts below the
-- customer's own key. A batch moves keys, so a cut's rank shifts by the keys that it moved across
-- the cut; the new cut is found by walking the metric's index by the difference, and only the customers that a batch
-- changed or that a cut passed are scored anew.

CREATE TABLE mart.quintile_cut (
    quintile      smallint PRIMARY KEY CHECK (quintile BETWEEN 1 AND 4),
    customers     bigint NOT NULL CHECK (customers > 0),
    r_value       date NOT NULL,
    r_customer_id text COLLATE "C" NOT NULL,
    f_value       bigint NOT NULL,
    f_customer_id text COLLATE "C" NOT NULL,
    m_value       numeric(38, 2) NOT NULL,
    m_customer_id text COLLATE "C" NOT NULL
);
COMMENT ON TABLE mart.quintile_cut IS 'The cuts: the last key of quintiles 1 to 4 of each metric; no row while no customer is scored.';
COMMENT ON COLUMN mart.quintile_cut.quintile IS 'The quintile that ends here.';
COMMENT ON COLUMN mart.quintile_cut.customers IS 'Scored customers that the cut was made for, the same in each row.';
COMMENT ON COLUMN mart.quintile_cut.r_value IS 'Recency: date of the last purchase of the quintile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.r_customer_id IS 'Recency: that customer.';
COMMENT ON COLUMN mart.quintile_cut.f_value IS 'Frequency of the quintile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.f_customer_id IS 'Frequency: that customer.';
COMMENT ON COLUMN mart.quintile_cut.m_value IS 'Monetary of the quintile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.m_customer_id IS 'Monetary: that customer.';

-- Works on the writer's temporary table due_customer (apply/create_stage). The plans are made once a session: with
-- these settings each walk can only follow its metric's index, whatever the number of customers. Of the two directions of
-- a walk, one has a limit of 0 and is not run.
CREATE FUNCTION mart.move_cuts() RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    cut      record;
    new_cut  record;
    distance bigint;
    walk_r   bigint;
    walk_f   bigint;
    walk_m   bigint;
BEGIN
    FOR cut IN
        SELECT q.*,
               q.customers + k.arrived AS new_customers,
               q.quintile * (q.customers / 5) + least(q.quintile, q.customers % 5) AS end_rank,
               k.r_shift, k.f_shift, k.m_shift
        FROM mart.quintile_cut q
        CROSS JOIN LATERAL (
            SELECT count(frequency) - count(old_frequency) AS arrived,
                   count(*) FILTER (WHERE (last_purchase, customer_id) <= (q.r_value, q.r_customer_id))
                   - count(*) FILTER (WHERE (old_last_purchase, customer_id) <= (q.r_value, q.r_customer_id)) AS r_shift,
                   count(*) FILTER (WHERE (frequency, customer_id) <= (q.f_value, q.f_customer_id))
                   - count(*) FILTER (WHERE (old_frequency, customer_id) <= (q.f_value, q.f_customer_id)) AS f_shift,
                   count(*) FILTER (WHERE (monetary, customer_id) <= (q.m_value, q.m_customer_id))
                   - count(*) FILTER (WHERE (old_monetary, customer_id) <= (q.m_value, q.m_customer_id)) AS m_shift
            FROM due_customer
            WHERE NOT passed
        ) k
        ORDER BY q.quintile
    LOOP
        -- The old cut's key, present or not, now has `end_rank + shift` keys at or below it. The new cut is
        -- the walk-th key above it; with a walk of 0 or less, the (1 - walk)-th of those at or below it, downwards.
        distance := cut.quintile * (cut.new_customers / 5) + least(cut.quintile, cut.new_customers % 5) - cut.end_rank;
        walk_r := distance - cut.r_shift;
        walk_f := distance - cut.f_shift;
        walk_m := distance - cut.m_shift;
        WITH by_last_purchase AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.last_purchase::date, c.customer_id) > (cut.r_value, cut.r_customer_id)
                ORDER BY c.last_purchase::date, c.customer_id
                LIMIT greatest(walk_r, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.last_purchase::date, c.customer_id) <= (cut.r_value, cut.r_customer_id)
                ORDER BY c.last_purchase::date DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_r, 0)
            )
        ), by_frequency AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.frequency, c.customer_id) > (cut.f_value, cut.f_customer_id)
                ORDER BY c.frequency, c.customer_id
                LIMIT greatest(walk_f, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.frequency, c.customer_id) <= (cut.f_value, cut.f_customer_id)
                ORDER BY c.frequency DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_f, 0)
            )
        ), by_monetary AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.monetary, c.customer_id) > (cut.m_value, cut.m_customer_id)
                ORDER BY c.monetary, c.customer_id
                LIMIT greatest(walk_m, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.monetary, c.customer_id) <= (cut.m_value, cut.m_customer_id)
                ORDER BY c.monetary DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_m, 0)
            )
        ), due AS (
            INSERT INTO due_customer
            SELECT customer_id, ctid, last_purchase, frequency, monetary, last_purchase, frequency, monetary,
                   r, f, m, segment, true
            FROM (TABLE by_last_purchase UNION ALL TABLE by_frequency UNION ALL TABLE by_monetary) passed
        )
        SELECT last_r.last_purchase AS r_value, last_r.customer_id AS r_customer_id,
               last_f.frequency AS f_value, last_f.customer_id AS f_customer_id,
               last_m.monetary AS m_value, last_m.customer_id AS m_customer_id
        INTO new_cut
        FROM (SELECT * FROM by_last_purchase OFFSET greatest(walk_r, 1 - walk_r) - 1) last_r
        CROSS JOIN (SELECT * FROM by_frequency OFFSET greatest(walk_f, 1 - walk_f) - 1) last_f
        CROSS JOIN (SELECT * FROM by_monetary OFFSET greatest(walk_m, 1 - walk_m) - 1) last_m;
        IF new_cut.r_customer_id IS NULL THEN
            RETURN false;
        END IF;
        UPDATE mart.quintile_cut
        SET customers     = cut.new_customers,
            r_value       = new_cut.r_value,
            r_customer_id = new_cut.r_customer_id,
            f_value       = new_cut.f_value,
            f_customer_id = new_cut.f_customer_id,
            m_value       = new_cut.m_value,
            m_customer_id = new_cut.m_customer_id
        WHERE quintile = cut.quintile;
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION mart.move_cuts IS
    'Moves the cuts to where the changed customers in due_customer put them, and adds to it those that a cut passed. '
    'False: the cuts do not fit the customers and must be built anew.';

CREATE TABLE mart.score_total (
    r         smallint NOT NULL,
    f         smallint NOT NULL,
    m         smallint NOT NULL,
    customers bigint NOT NULL,
    monetary  numeric NOT NULL,
    PRIMARY KEY (r, f, m)
) WITH (fillfactor = 50);
COMMENT ON TABLE mart.score_total IS 'One row a combination of scores that occurred: its customers now, kept by the moves of each batch.';
COMMENT ON COLUMN mart.score_total.r IS 'Recency score.';
COMMENT ON COLUMN mart.score_total.f IS 'Frequency score.';
COMMENT ON COLUMN mart.score_total.m IS 'Monetary score.';
COMMENT ON COLUMN mart.score_total.customers IS 'Customers with these scores.';
COMMENT ON COLUMN mart.score_total.monetary IS 'Sum of their monetary.';

CREATE TABLE mart.segment_trend (
    segment   text NOT NULL,
    at        timestamptz NOT NULL,
    customers bigint NOT NULL,
    monetary  numeric NOT NULL,
    PRIMARY KEY (segment, at)
) WITH (fillfactor = 50);
CREATE INDEX segment_trend_by_time ON mart.segment_trend (at);
COMMENT ON TABLE mart.segment_trend IS 'One row a segment and minute in which a batch was applied; thinned to hours, then days, as it ages.';
COMMENT ON COLUMN mart.segment_trend.segment IS 'Segment.';
COMMENT ON COLUMN mart.segment_trend.at IS 'Start of the minute.';
COMMENT ON COLUMN mart.segment_trend.customers IS 'Customers in the segment after the minute''s last batch.';
COMMENT ON COLUMN mart.segment_trend.monetary IS 'What they had spent in all.';

CREATE TABLE mart.segment_flow_total (
    day          date NOT NULL,
    from_segment text,
    to_segment   text NOT NULL,
    moves        bigint NOT NULL CHECK (moves > 0),
    UNIQUE NULLS NOT DISTINCT (day, from_segment, to_segment)
) WITH (fillfactor = 50);
COMMENT ON TABLE mart.segment_flow_total IS
    'One row a day and pair of segments: how many moves there were, also those that mart.segment_change no longer holds '
    '(of erased customers, and pruned ones).';
COMMENT ON COLUMN mart.segment_flow_total.day IS 'Date of the newest invoice that the mart knew when they moved, shop''s local time.';
COMMENT ON COLUMN mart.segment_flow_total.from_segment IS 'Segment before, null for new customers.';
COMMENT ON COLUMN mart.segment_flow_total.to_segment IS 'Segment after.';
COMMENT ON COLUMN mart.segment_flow_total.moves IS 'Moves; a customer who moved twice counts twice. Never reduced.';

CREATE TABLE mart.score_check (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    customers    bigint NOT NULL,
    wrong_scores bigint NOT NULL,
    wrong_cuts   bigint NOT NULL,
    wrong_totals bigint NOT NULL
);
COMMENT ON TABLE mart.score_check IS 'One row a self-check: scores, cuts and totals against a full ntile. What was wrong was repaired with it.';
COMMENT ON COLUMN mart.score_check.id IS 'Order of the checks.';
COMMENT ON COLUMN mart.score_check.checked_at IS 'When.';
COMMENT ON COLUMN mart.score_check.customers IS 'Customers that ought to be scored.';
COMMENT ON COLUMN mart.score_check.wrong_scores IS 'Customers with a wrong score or segment.';
COMMENT ON COLUMN mart.score_check.wrong_cuts IS 'Wrong cuts, of 12.';
COMMENT ON COLUMN mart.score_check.wrong_totals IS 'Combinations of scores with wrong totals.';

-- Association rules by versions.

CREATE TABLE mart.rule_run (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status          text NOT NULL CHECK (status IN ('published', 'kept back')),
    reason          text,
    is_current      boolean NOT NULL DEFAULT false,
    previous_run_id bigint REFERENCES mart.rule_run ON DELETE SET NULL,
    business_date   date NOT NULL,
    window_days     integer NOT NULL CHECK (window_days > 0),
    min_support     numeric NOT NULL CHECK (min_support > 0 AND min_support <= 1),
    min_confidence  numeric NOT NULL CHECK (min_confidence >= 0 AND min_confidence <= 1),
    max_items       integer CHECK (max_items >= 2),
    engine          text,
    lake            text NOT NULL,
    lake_version    bigint NOT NULL CHECK (lake_version >= 0),
    invoices        bigint CHECK (invoices >= 0),
    baskets         bigint CHECK (baskets >= 0),
    products        bigint CHECK (products >= 0),
    itemsets        bigint CHECK (itemsets >= 0),
    rules           bigint CHECK (rules >= 0),
    seconds         jsonb NOT NULL,
    code_version    text NOT NULL,
    started_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'kept back') = (reason IS NOT NULL)),
    CHECK (status = 'published' OR NOT is_current),
    CHECK (status <> 'published' OR (engine IS NOT NULL AND rules IS NOT NULL AND baskets > 0))
);
CREATE UNIQUE INDEX rule_run_current ON mart.rule_run (is_current) WHERE is_current;
COMMENT ON TABLE mart.rule_run IS 'One row a nightly run that was published, or kept back by a guard.';
COMMENT ON COLUMN mart.rule_run.id IS 'Order of the runs.';
COMMENT ON COLUMN mart.rule_run.status IS 'published, or kept back: a guard refused it and it changed nothing.';
COMMENT ON COLUMN mart.rule_run.reason IS 'Why it was kept back.';
COMMENT ON COLUMN mart.rule_run.is_current IS 'True for the one run whose rules the views show.';
COMMENT ON COLUMN mart.rule_run.previous_run_id IS 'The run that was current before it; null for the first, or if that one is no longer kept.';
COMMENT ON COLUMN mart.rule_run.business_date IS 'Last business date of the window.';
COMMENT ON COLUMN mart.rule_run.window_days IS 'Business dates in the window.';
COMMENT ON COLUMN mart.rule_run.min_support IS 'Least share of the baskets that hold an itemset.';
COMMENT ON COLUMN mart.rule_run.min_confidence IS 'Least confidence of a rule.';
COMMENT ON COLUMN mart.rule_run.max_items IS 'Most items of a rule, both sides; null: any number.';
COMMENT ON COLUMN mart.rule_run.engine IS 'What mined the itemsets: eclat or fpgrowth.';
COMMENT ON COLUMN mart.rule_run.lake IS 'Delta table that was read.';
COMMENT ON COLUMN mart.rule_run.lake_version IS 'Version of that table.';
COMMENT ON COLUMN mart.rule_run.invoices IS 'Invoices of the window with at least one line that counts.';
COMMENT ON COLUMN mart.rule_run.baskets IS 'Invoices with at least 2 distinct products: what the shares are shares of.';
COMMENT ON COLUMN mart.rule_run.products IS 'Distinct products of the window.';
COMMENT ON COLUMN mart.rule_run.itemsets IS 'Frequent itemsets.';
COMMENT ON COLUMN mart.rule_run.rules IS 'Rules.';
COMMENT ON COLUMN mart.rule_run.seconds IS 'Seconds of each phase before the publishing.';
COMMENT ON COLUMN mart.rule_run.code_version IS 'Version of the job, with the commit where it is known.';
COMMENT ON COLUMN mart.rule_run.started_at IS 'When the run began.';
COMMENT ON COLUMN mart.rule_run.created_at IS 'When it was written, just before its commit.';

CREATE TABLE mart.association_rule (
    run_id            bigint NOT NULL REFERENCES mart.rule_run ON DELETE CASCADE,
    id                integer NOT NULL CHECK (id > 0),
    antecedent_codes  text[] NOT NULL CHECK (cardinality(antecedent_codes) > 0),
    antecedent_names  text[] NOT NULL CHECK (cardinality(antecedent_names) = cardinality(antecedent_codes)),
    consequent_code   text NOT NULL CHECK (consequent_code <> ALL (antecedent_codes)),
    consequent_name   text NOT NULL,
    lead_code         text COLLATE "C" NOT NULL CHECK (lead_code = ANY (antecedent_codes)),
    together_count    bigint NOT NULL CHECK (together_count > 0),
    antecedent_count  bigint NOT NULL CHECK (antecedent_count >= together_count),
    consequent_count  bigint NOT NULL CHECK (consequent_count >= together_count),
    support           double precision NOT NULL CHECK (support > 0 AND support <= 1),
    confidence        double precision NOT NULL CHECK (confidence > 0 AND confidence <= 1),
    lift              double precision NOT NULL CHECK (lift BETWEEN 1 AND 1e18),
    leverage          double precision NOT NULL CHECK (leverage BETWEEN 0 AND 0.25),
    conviction        double precision CHECK (conviction BETWEEN 1 AND 1e18),
    zhang             double precision NOT NULL CHECK (zhang BETWEEN 0 AND 1),
    PRIMARY KEY (run_id, id)
);
CREATE INDEX association_rule_by_lead ON mart.association_rule (run_id, lead_code);
COMMENT ON TABLE mart.association_rule IS 'One row a rule of a run: baskets with the antecedent hold the consequent too.';
COMMENT ON COLUMN mart.association_rule.run_id IS 'The run.';
COMMENT ON COLUMN mart.association_rule.id IS 'Place in the run by lift, 1 the highest.';
COMMENT ON COLUMN mart.association_rule.antecedent_codes IS 'Stock codes of the antecedent, in order.';
COMMENT ON COLUMN mart.association_rule.antecedent_names IS 'Their names, in the order of the codes.';
COMMENT ON COLUMN mart.association_rule.consequent_code IS 'Stock code of the consequent.';
COMMENT ON COLUMN mart.association_rule.consequent_name IS 'Its name.';
COMMENT ON COLUMN mart.association_rule.lead_code IS 'The antecedent''s product that is in the fewest antecedents: recommend() finds the rule by it.';
COMMENT ON COLUMN mart.association_rule.together_count IS 'Baskets that hold both sides.';
COMMENT ON COLUMN mart.association_rule.antecedent_count IS 'Baskets that hold the antecedent.';
COMMENT ON COLUMN mart.association_rule.consequent_count IS 'Baskets that hold the consequent.';
COMMENT ON COLUMN mart.association_rule.support IS 'Share of the baskets that hold both sides.';
COMMENT ON COLUMN mart.association_rule.confidence IS 'Share of the antecedent''s baskets that hold the consequent.';
COMMENT ON COLUMN mart.association_rule.lift IS 'Confidence over the share of all baskets that hold the consequent; 1 is chance.';
COMMENT ON COLUMN mart.association_rule.leverage IS 'Support less what chance would give.';
COMMENT ON COLUMN mart.association_rule.conviction IS '(1 - share of the consequent) / (1 - confidence); null stands for infinity, where the confidence is 1.';
COMMENT ON COLUMN mart.association_rule.zhang IS 'Zhang''s metric, from 0 (chance) to 1.';

-- Erasure and retention: who and what is here no more, and what it added up to.

CREATE TABLE mart.erasure_salt (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt     bytea NOT NULL CHECK (length(salt) = 32)
);
COMMENT ON TABLE mart.erasure_salt IS 'One row: what customers'' ids are salted with in mart.erased_customer and in the lake''s copy of it.';
COMMENT ON COLUMN mart.erasure_salt.only_row IS 'Always true: there is one mart.';
COMMENT ON COLUMN mart.erasure_salt.salt IS 'Random bytes.';
INSERT INTO mart.erasure_salt (salt)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

CREATE TABLE mart.erased_customer (
    customer_sha256 bytea PRIMARY KEY CHECK (length(customer_sha256) = 32),
    erased_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mart.erased_customer IS 'Erased customers: their invoices, sent again or new, are applied without the customer.';
COMMENT ON COLUMN mart.erased_customer.customer_sha256 IS
    'SHA-256 of the salt, as hexadecimal text, and the customer''s id, in UTF-8.';
COMMENT ON COLUMN mart.erased_customer.erased_at IS 'When the customer was erased first.';

CREATE TABLE mart.pruned_invoice (
    invoice text COLLATE "C" PRIMARY KEY
);
COMMENT ON TABLE mart.pruned_invoice IS 'Numbers of invoices that were pruned: a record with one of them is a duplicate, whenever it comes.';
COMMENT ON COLUMN mart.pruned_invoice.invoice IS 'Invoice number, as the store gave it.';

CREATE TABLE mart.customer_carried (
    customer_id   text COLLATE "C" PRIMARY KEY,
    frequency     bigint NOT NULL CHECK (frequency >= 0),
    purchased     numeric(38, 2) NOT NULL CHECK (purchased BETWEEN 0 AND 1e35),
    returned      numeric(38, 2) NOT NULL CHECK (returned BETWEEN -1e35 AND 0),
    last_purchase timestamp,
    CHECK ((frequency = 0) = (last_purchase IS NULL))
);
COMMENT ON TABLE mart.customer_carried IS
    'One row a customer of whom invoices were pruned: what these came to. mart.customer counts them on.';
COMMENT ON COLUMN mart.customer_carried.customer_id IS 'Customer, as in the event.';
COMMENT ON COLUMN mart.customer_carried.frequency IS 'Pruned invoices with at least one counting line.';
COMMENT ON COLUMN mart.customer_carried.purchased IS 'Sum of purchased over the pruned invoices.';
COMMENT ON COLUMN mart.customer_carried.returned IS 'Sum of returned over them: zero or negative.';
COMMENT ON COLUMN mart.customer_carried.last_purchase IS 'Newest date of one with a counting line, shop''s local time.';

CREATE TABLE mart.pruned_total (
    only_row            boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    invoices            bigint NOT NULL DEFAULT 0,
    purchased           numeric(38, 2) NOT NULL DEFAULT 0,
    returned            numeric(38, 2) NOT NULL DEFAULT 0,
    newest_invoice_date timestamp
);
INSERT INTO mart.pruned_total DEFAULT VALUES;
COMMENT ON TABLE mart.pruned_total IS 'One row: what all pruned invoices came to, those without a customer included.';
COMMENT ON COLUMN mart.pruned_total.only_row IS 'Always true.';
COMMENT ON COLUMN mart.pruned_total.invoices IS 'How many they were.';
COMMENT ON COLUMN mart.pruned_total.purchased IS 'Sum of purchased.';
COMMENT ON COLUMN mart.pruned_total.returned IS 'Sum of returned: zero or negative.';
COMMENT ON COLUMN mart.pruned_total.newest_invoice_date IS 'Date of the newest, shop''s local time; null if there was none.';

-- What analysts, dashboards and the watch read.

CREATE VIEW mart.as_of AS
SELECT CASE recency_clock WHEN 'wall' THEN (now() AT TIME ZONE time_zone)::date ELSE newest_invoice_date::date END
           AS as_of_date,
       recency_clock,
       time_zone,
       returns_policy,
       newest_invoice_date,
       clock_limit,
       (SELECT count(*) FROM mart.invoice WHERE invoice_date > clock_limit) AS invoices_ahead
FROM mart.shop;
COMMENT ON VIEW mart.as_of IS 'One row: the date that recency is measured to (today in the shop, or the newest invoice''s), and the rules.';
COMMENT ON COLUMN mart.as_of.clock_limit IS 'An invoice dated later does not move the as-of date yet: a day after the clock at the last batch.';
COMMENT ON COLUMN mart.as_of.invoices_ahead IS 'Invoices dated later than that. They count in every other figure.';

CREATE VIEW mart.customer_segmentation AS
SELECT c.id,
       c.customer_id,
       greatest((SELECT as_of_date FROM mart.as_of) - c.last_purchase::date, 0) AS recency,
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
COMMENT ON COLUMN mart.customer_segmentation.recency IS
    'Whole days from the last purchase to the as-of date; 0 where that lies after it: the wall clock may be a day behind a '
    'purchase, and a till''s clock years ahead.';

CREATE VIEW mart.segment_count AS
SELECT s.segment AS customer_segment,
       coalesce(sum(t.customers), 0)::bigint AS customers,
       coalesce(sum(t.monetary), 0) AS monetary
FROM mart.segment_score s
LEFT JOIN mart.score_total t USING (r, f, m)
GROUP BY s.segment;
COMMENT ON VIEW mart.segment_count IS 'One row a segment, also the empty ones: customers now in it and what they spent in all.';

CREATE VIEW mart.segment_count_history AS
SELECT at, segment AS customer_segment, customers, monetary FROM mart.segment_trend;
COMMENT ON VIEW mart.segment_count_history IS
    'One row a minute with traffic and segment: customers in it at that minute''s end and what they had spent. Older rows '
    'are the last of their hour, still older ones the last of their day.';

CREATE VIEW mart.segment_flow AS
SELECT from_segment, to_segment, moves AS customers, day FROM mart.segment_flow_total;
COMMENT ON VIEW mart.segment_flow IS
    'One row a day (of the newest invoice) and pair of segments: customers who moved, one who moved twice counted twice. '
    'from_segment is null for new customers.';

CREATE VIEW mart.segment_move AS
SELECT id, changed_at, event_time, customer_id, from_segment, to_segment, cause, invoice,
       from_r, from_f, from_m, to_r, to_f, to_m
FROM mart.segment_change;
COMMENT ON VIEW mart.segment_move IS 'One row each time a customer entered or changed a segment; the newest has the highest id.';

CREATE VIEW mart.score_count AS
SELECT s.r, s.f, coalesce(sum(t.customers), 0)::bigint AS customers, coalesce(sum(t.monetary), 0) AS monetary
FROM mart.segment_score s
LEFT JOIN mart.score_total t USING (r, f, m)
GROUP BY s.r, s.f;
COMMENT ON VIEW mart.score_count IS 'One row a pair of recency and frequency score: customers now in it and what they spent in all.';

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

CREATE VIEW mart.stream_progress AS
SELECT topic, topic_id, "partition", next_offset, updated_at FROM mart.next_offset;
COMMENT ON VIEW mart.stream_progress IS 'One row a partition of a topic: how far it is applied.';
COMMENT ON COLUMN mart.stream_progress.topic_id IS 'Kafka''s id of the topic: a re-created topic has another.';
COMMENT ON COLUMN mart.stream_progress.next_offset IS 'First offset that is not applied yet.';
COMMENT ON COLUMN mart.stream_progress.updated_at IS 'When it moved last.';

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

CREATE VIEW mart.quarantine_count AS
SELECT reason.reason, reason.meaning, coalesce(rejected.records, 0) AS records, rejected.newest_at
FROM mart.reject_reason reason
LEFT JOIN LATERAL (
    SELECT count(*) AS records, max(rejected_at) AS newest_at
    FROM mart.rejected_invoice r
    WHERE r.reason = reason.reason AND r.outcome IS NULL
) rejected ON true;
COMMENT ON VIEW mart.quarantine_count IS
    'One row a reason, also those without records: records that wait in quarantine for it, and when the newest came.';

CREATE VIEW mart.market_basket_analysis AS
SELECT r.id,
       r.antecedent_names,
       ARRAY[r.consequent_name] AS consequent_names,
       r.confidence,
       r.lift,
       r.support,
       run.created_at,
       r.antecedent_codes,
       ARRAY[r.consequent_code] AS consequent_codes,
       r.leverage,
       r.conviction,
       r.zhang,
       r.together_count,
       r.antecedent_count,
       r.consequent_count,
       run.baskets,
       run.business_date,
       run.id AS run_id
FROM mart.association_rule r
JOIN mart.rule_run run ON run.id = r.run_id
WHERE run.is_current;
COMMENT ON VIEW mart.market_basket_analysis IS 'One row a rule of the current run, id 1 with the highest lift.';
COMMENT ON COLUMN mart.market_basket_analysis.created_at IS 'When the run was published.';
COMMENT ON COLUMN mart.market_basket_analysis.baskets IS 'Baskets of the run: support x baskets = together_count.';
COMMENT ON COLUMN mart.market_basket_analysis.conviction IS 'Null stands for infinity, where the confidence is 1.';

CREATE VIEW mart.rule_drift AS
WITH run AS (SELECT id, previous_run_id FROM mart.rule_run WHERE is_current AND previous_run_id IS NOT NULL),
now AS (SELECT r.* FROM mart.association_rule r JOIN run ON r.run_id = run.id),
before AS (SELECT r.* FROM mart.association_rule r JOIN run ON r.run_id = run.previous_run_id)
SELECT CASE WHEN before.id IS NULL THEN 'appeared'
            WHEN now.id IS NULL THEN 'vanished'
            WHEN now.lift > before.lift THEN 'strengthened'
            ELSE 'weakened' END AS change,
       coalesce(now.antecedent_names, before.antecedent_names) AS antecedent_names,
       ARRAY[coalesce(now.consequent_name, before.consequent_name)] AS consequent_names,
       before.lift AS lift_before,
       now.lift AS lift,
       before.confidence AS confidence_before,
       now.confidence,
       before.support AS support_before,
       now.support,
       coalesce(now.antecedent_codes, before.antecedent_codes) AS antecedent_codes,
       ARRAY[coalesce(now.consequent_code, before.consequent_code)] AS consequent_codes
FROM now
FULL JOIN before ON before.consequent_code = now.consequent_code AND before.antecedent_codes = now.antecedent_codes
WHERE now.lift IS DISTINCT FROM before.lift;
COMMENT ON VIEW mart.rule_drift IS 'One row a rule that differs between the current run and the one that was current before it; strengthened or weakened by lift.';

CREATE VIEW mart.nightly_status AS
SELECT newest.id AS run_id,
       newest.status,
       newest.reason,
       newest.business_date,
       newest.created_at AS run_at,
       published.published_at,
       coalesce(published.published_at, made.made_at) AS waiting_since
FROM (SELECT min(applied_at) AS made_at FROM public.migration) made
CROSS JOIN (SELECT max(created_at) AS published_at FROM mart.rule_run WHERE status = 'published') published
LEFT JOIN LATERAL (SELECT * FROM mart.rule_run ORDER BY id DESC LIMIT 1) newest ON true;
COMMENT ON VIEW mart.nightly_status IS 'One row: the newest run of the nightly job, and when rules were published last.';
COMMENT ON COLUMN mart.nightly_status.run_id IS 'The newest run; null before the first.';
COMMENT ON COLUMN mart.nightly_status.status IS 'Its status: published, or kept back by a guard.';
COMMENT ON COLUMN mart.nightly_status.reason IS 'Why it was kept back.';
COMMENT ON COLUMN mart.nightly_status.business_date IS 'Last business date of its window.';
COMMENT ON COLUMN mart.nightly_status.run_at IS 'When it was written.';
COMMENT ON COLUMN mart.nightly_status.published_at IS 'When the newest published run was written; null before the first.';
COMMENT ON COLUMN mart.nightly_status.waiting_since IS 'The same; before the first, when the mart was made.';

CREATE FUNCTION mart.recommend(stock_codes text[], n integer DEFAULT 5)
RETURNS TABLE (stock_code text, name text, because text[], confidence double precision, lift double precision,
               support double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = mart, pg_temp
AS $$
    SELECT consequent_code, consequent_name, antecedent_names, confidence, lift, support
    FROM (
        SELECT DISTINCT ON (r.consequent_code) r.*
        FROM mart.association_rule r
        WHERE r.run_id = (SELECT id FROM mart.rule_run WHERE is_current)
          AND r.lead_code = ANY (stock_codes)
          AND r.antecedent_codes <@ stock_codes
          AND r.consequent_code <> ALL (stock_codes)
        ORDER BY r.consequent_code, r.confidence * r.lift DESC, r.id
    ) best
    ORDER BY confidence * lift DESC, id
    LIMIT greatest(n, 0)
$$;
COMMENT ON FUNCTION mart.recommend IS
    'What customers who buy these also take: up to n products, each by the current rule with the highest confidence x lift whose antecedent lies within the given stock codes.';

-- What `explain` and the dashboards ask of one customer. The functions read what a reader may not.

CREATE FUNCTION mart.explain_scores(customer text)
RETURNS TABLE (
    metric text, score smallint, value text, rank bigint, customers bigint, quintile_begins bigint, quintile_ends bigint,
    value_below text, value_above text, places_to_next bigint, next_value text, more_to_next numeric
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
DECLARE
    known record;
BEGIN
    FOR known IN SELECT * FROM (VALUES
        ('r', 'last_purchase::date', '1', '-infinity'), ('f', 'frequency', '1', '0'), ('m', 'monetary', '0.01', '-infinity')
    ) AS metrics (metric, key, unit, least)
    LOOP
        RETURN QUERY EXECUTE format(
            $explain$
            SELECT %1$L::text, own.score, own.value::text, place.rank, own.customers, own.begins, own.ends,
                   below.%1$s_value::text, above.value::text,
                   CASE WHEN above.value IS NOT NULL THEN own.ends + 1 - place.rank END,
                   needed.value::text, (needed.value - own.value)::numeric
            FROM (
                SELECT c.%1$s AS score, c.%2$s AS value, c.customer_id, n.customers,
                       (c.%1$s - 1) * (n.customers / 5) + least(c.%1$s - 1, n.customers %% 5) + 1 AS begins,
                       c.%1$s * (n.customers / 5) + least(c.%1$s, n.customers %% 5) AS ends
                FROM mart.customer c
                JOIN mart.quintile_cut n ON n.quintile = 1
                WHERE c.customer_id = $1 AND c.frequency > 0
            ) own
            LEFT JOIN mart.quintile_cut below ON below.quintile = own.score - 1
            LEFT JOIN mart.quintile_cut ending ON ending.quintile = own.score
            CROSS JOIN LATERAL (
                SELECT own.begins - 1 + count(*) AS rank
                FROM mart.customer c
                WHERE c.frequency > 0
                  AND (c.%2$s, c.customer_id) <= (own.value, own.customer_id)
                  AND (c.%2$s, c.customer_id) > (coalesce(below.%1$s_value, %4$L), coalesce(below.%1$s_customer_id, ''))
            ) place
            LEFT JOIN LATERAL (
                SELECT c.%2$s AS value, c.customer_id
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.%2$s, c.customer_id) > (ending.%1$s_value, ending.%1$s_customer_id)
                ORDER BY c.%2$s, c.customer_id
                LIMIT 1
            ) above ON true
            CROSS JOIN LATERAL (
                SELECT CASE WHEN own.customer_id > above.customer_id THEN above.value ELSE above.value + %3$s END AS value
            ) needed
            $explain$,
            known.metric, known.key, known.unit, known.least
        ) USING customer;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mart.explain_scores IS
    'Three rows for a scored customer, none for another: metric (r: date of the last purchase, f: invoices, m: spent), '
    'score, value, rank among the customers (1 lowest), the ranks at which the quintile begins and ends, the value that ends '
    'the quintile below and the one that begins the quintile above, places to climb into the next quintile, the least value that '
    'does, and how much more that is (days, invoices, currency). Null where there is no quintile above.';

CREATE FUNCTION mart.explain_purchases(customer text, newest integer DEFAULT 20)
RETURNS TABLE (
    invoice text, invoice_date timestamp, line_count integer, counting_lines integer, purchased numeric, returned numeric,
    applied_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.invoice, i.invoice_date, i.line_count, i.counting_lines, i.purchased, i.returned, i.applied_at
    FROM mart.invoice i
    WHERE i.customer_id = customer
    ORDER BY i.invoice_date DESC, i.invoice DESC
    LIMIT newest
$$;
COMMENT ON FUNCTION mart.explain_purchases IS 'The newest invoices of a customer, newest first.';

CREATE FUNCTION mart.explain_moves(customer text, newest integer DEFAULT 20)
RETURNS TABLE (
    changed_at timestamptz, event_time timestamp, from_segment text, to_segment text, from_r smallint, from_f smallint,
    from_m smallint, to_r smallint, to_f smallint, to_m smallint, cause text, invoice text
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.changed_at, s.event_time, s.from_segment, s.to_segment, s.from_r, s.from_f, s.from_m, s.to_r, s.to_f, s.to_m,
           s.cause, s.invoice
    FROM mart.segment_change s
    WHERE s.customer_id = customer
    ORDER BY s.id DESC
    LIMIT newest
$$;
COMMENT ON FUNCTION mart.explain_moves IS 'The newest moves of a customer between segments, newest first.';

CREATE FUNCTION mart.explain_carried(customer text)
RETURNS TABLE (frequency bigint, purchased numeric, returned numeric, last_purchase timestamp)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.frequency, c.purchased, c.returned, c.last_purchase
    FROM mart.customer_carried c
    WHERE c.customer_id = customer
$$;
COMMENT ON FUNCTION mart.explain_carried IS 'What a customer''s pruned invoices came to; no row if none was pruned.';

-- Rights. A writer changes no rule: it goes with its run.
GRANT USAGE ON SCHEMA mart TO mart_writer, analytics_reader;
GRANT SELECT ON mart.segment_score, mart.reject_reason, mart.erasure_salt, mart.erased_customer, mart.pruned_invoice,
    mart.pruned_total, mart.customer_carried TO mart_writer;
GRANT SELECT, INSERT ON mart.invoice, mart.segment_change, mart.rejected_invoice, mart.batch, mart.score_check,
    mart.association_rule TO mart_writer;
GRANT SELECT, INSERT, UPDATE ON mart.customer, mart.shop, mart.stream_writer, mart.segment_flow_total TO mart_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON mart.next_offset, mart.quintile_cut, mart.score_total, mart.segment_trend,
    mart.rule_run TO mart_writer;
GRANT SELECT, UPDATE ON mart.stream_total TO mart_writer;
-- Of records of one topic: what `redrive` may find out, and nothing else of a row.
GRANT UPDATE (reason, detail, outcome, settled_at) ON mart.rejected_invoice TO mart_writer;
GRANT SELECT ON mart.as_of, mart.customer_segmentation, mart.segment_count, mart.segment_count_history, mart.segment_flow,
    mart.segment_move, mart.score_count, mart.stream_batch, mart.stream_status, mart.stream_progress,
    mart.recent_minute, mart.recent_latency, mart.quarantine_count, mart.market_basket_analysis,
    mart.rule_drift, mart.nightly_status
    TO mart_writer, analytics_reader;
REVOKE EXECUTE ON FUNCTION mart.move_cuts, mart.count_batch, mart.recommend, mart.explain_scores, mart.explain_purchases, mart.explain_moves,
    mart.explain_carried FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mart.move_cuts TO mart_writer;
GRANT EXECUTE ON FUNCTION mart.recommend, mart.explain_scores, mart.explain_purchases, mart.explain_moves,
    mart.explain_carried TO mart_writer, analytics_reader;
