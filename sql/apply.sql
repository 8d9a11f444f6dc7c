-- What the streaming job runs, in the order in which it runs. A writer takes over. Each batch checks the fence and its
-- next offsets, stages what came, inserts what is new, updates customers (sql/score.sql scores them), quarantines the
-- rest, advances the next offsets and records the batch, all in one transaction. Then the rare statements: the shop's
-- rules change, next offsets are forgotten.

-- name: create_stage
-- Temporary tables of the writer's session, emptied at each commit, or, behind a pooler, of one transaction: what came,
-- what of it was new, and the customers to rescore with their current values (null if deleted) and their previous ones
-- (null if new): one row for each that the batch wrote or deleted, and further rows for those that a cut `passed`, so a
-- customer may be there twice. Not LIKE mart.invoice: `restore` stages before there is a mart, and no writer should
-- wait for a lock on it where nobody says who holds it.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_invoice (
    invoice         text COLLATE "C" NOT NULL,
    invoice_date    timestamp NOT NULL,
    customer_id     text COLLATE "C",
    line_count      integer NOT NULL,
    counting_lines  integer NOT NULL,
    purchased       numeric(38, 2) NOT NULL,
    returned        numeric(38, 2) NOT NULL,
    content_sha256  bytea NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    kafka_timestamp timestamptz NOT NULL
) ON COMMIT {on_commit};

CREATE TEMPORARY TABLE IF NOT EXISTS fresh_invoice (
    invoice        text COLLATE "C" NOT NULL,
    invoice_date   timestamp NOT NULL,
    customer_id    text COLLATE "C",
    counting_lines integer NOT NULL,
    purchased      numeric(38, 2) NOT NULL,
    returned       numeric(38, 2) NOT NULL
) ON COMMIT {on_commit};

CREATE TEMPORARY TABLE IF NOT EXISTS due_customer (
    customer_id       text COLLATE "C" NOT NULL,
    row_id            tid,
    last_purchase     date,
    frequency         bigint,
    monetary          numeric(38, 2),
    old_last_purchase date,
    old_frequency     bigint,
    old_monetary      numeric(38, 2),
    old_r             smallint,
    old_f             smallint,
    old_m             smallint,
    old_segment       text,
    passed            boolean NOT NULL DEFAULT false
) ON COMMIT {on_commit};

-- name: take_over
-- Each start of a writer takes the next epoch of its topic; the previous writer then fails at the fence.
INSERT INTO mart.stream_writer AS w (topic, epoch, application)
VALUES (%(topic)s, 1, %(application)s)
ON CONFLICT (topic) DO UPDATE
SET epoch = w.epoch + 1, application = excluded.application, started_at = now()
RETURNING epoch

-- name: select_topic_ids
-- Another topic of the same name was read before: it was deleted and re-created.
SELECT DISTINCT topic_id::text FROM mart.next_offset WHERE topic = %(topic)s AND topic_id <> %(topic_id)s

-- name: fence
-- Locks the topic's row: a writer whose epoch is no longer the one stored here must stop.
SELECT epoch, application, started_at FROM mart.stream_writer WHERE topic = %(topic)s FOR UPDATE

-- name: select_next_offsets
SELECT "partition", next_offset FROM mart.next_offset WHERE topic_id = %(topic_id)s

-- name: invoice_content
-- The mart's part of an invoice's content, kept even if its customer is erased. Together with customer and digest it is
-- compared with a copy and with the lake. A new field of the event is added here, and everything else follows.
invoice_date, line_count, counting_lines, purchased, returned

-- name: invoice_columns
-- The columns of an invoice that apply writes, listed once: streaming.apply stages these.
invoice, customer_id, {apply/invoice_content}, content_sha256, kafka_partition, kafka_offset, kafka_timestamp

-- name: copy_staged
-- The batch's invoices as CSV, the digest as hexadecimal bytea.
COPY staged_invoice (
    {apply/invoice_columns}
) FROM STDIN (FORMAT csv)

-- name: forget_erased
-- Staged invoices of customers on the erasure list lose customer and digest; costs nothing while the list is empty.
UPDATE staged_invoice
SET customer_id = NULL, content_sha256 = decode(repeat('00', 32), 'hex')
WHERE EXISTS (SELECT FROM mart.erased_customer)
  AND sha256(convert_to((SELECT encode(salt, 'hex') FROM mart.erasure_salt) || customer_id, 'UTF8'))
      IN (SELECT customer_sha256 FROM mart.erased_customer)

-- name: skip_pruned
-- A pruned number was counted before. One key lookup per record, and none while nothing is pruned: a join would be
-- planned for an emptier mart.
DELETE FROM staged_invoice
WHERE EXISTS (SELECT FROM mart.pruned_invoice)
  AND (SELECT true FROM mart.pruned_invoice p WHERE p.invoice = staged_invoice.invoice)

-- name: insert_invoices
-- If several records have one invoice number, the earliest wins, whatever the order of partitions.
WITH inserted AS (
    INSERT INTO mart.invoice (
        {apply/invoice_columns}
    )
    SELECT DISTINCT ON (invoice)
        {apply/invoice_columns}
    FROM staged_invoice
    ORDER BY invoice, kafka_timestamp, kafka_partition, kafka_offset
    ON CONFLICT (invoice) DO NOTHING
    RETURNING invoice, invoice_date, customer_id, counting_lines, purchased, returned
)
INSERT INTO fresh_invoice SELECT * FROM inserted

-- name: select_conflicts
-- Records whose invoice number is in the mart with other content. If the digest went with an erased customer, content
-- is what the mart still has of it.
SELECT s.kafka_partition, s.kafka_offset, s.kafka_timestamp, s.invoice, i.kafka_partition, i.kafka_offset
FROM staged_invoice s
JOIN mart.invoice i USING (invoice)
WHERE i.content_sha256 <> s.content_sha256
   OR (i.content_sha256 = decode(repeat('00', 32), 'hex')
       AND ({i.apply/invoice_content}) IS DISTINCT FROM ({s.apply/invoice_content}))
ORDER BY s.kafka_partition, s.kafka_offset

-- name: lock_shop
-- Held from here to the commit: everyone who scores customers or changes the shop's rules takes turns.
SELECT returns_policy FROM mart.shop FOR UPDATE

-- name: advance_clock
-- The newest invoice date that is at most a day ahead of PostgreSQL's clock, whatever the records claim: of what the
-- mart knew, of the batch, and of what was ahead of the clock and no longer is. If the clock is set back, so is this
-- date.
UPDATE mart.shop
SET clock_limit = now_allowed.until,
    newest_invoice_date = greatest(
        CASE WHEN newest_invoice_date <= now_allowed.until THEN newest_invoice_date END,
        (SELECT max(invoice_date) FROM fresh_invoice WHERE invoice_date <= now_allowed.until),
        (SELECT max(invoice_date)
         FROM mart.invoice
         WHERE invoice_date <= now_allowed.until
           AND invoice_date > CASE WHEN newest_invoice_date <= now_allowed.until THEN newest_invoice_date
                                   ELSE '-infinity' END),
        (SELECT p.newest_invoice_date FROM mart.pruned_total p WHERE p.newest_invoice_date <= now_allowed.until)
    )
FROM (SELECT (now() AT TIME ZONE time_zone) + interval '1 day' AS until FROM mart.shop) now_allowed

-- name: upsert_customers
-- In key order, so that two writers can never deadlock. Under `ignore`, returns change nothing. The previous values go
-- to due_customer together with the current ones: all parts of one statement see the table as it was before the
-- statement.
WITH purchase AS (
    SELECT customer_id,
           max(invoice_date) FILTER (WHERE counting_lines > 0) AS last_purchase,
           count(*) FILTER (WHERE counting_lines > 0) AS frequency,
           sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL
      AND (counting_lines > 0 OR (%(returns_policy)s = 'net' AND returned < 0))
    GROUP BY customer_id
), old AS (
    SELECT c.customer_id, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
    FROM purchase
    JOIN mart.customer c USING (customer_id)
    WHERE c.frequency > 0
), written AS (
    INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
    SELECT customer_id, last_purchase, frequency, monetary
    FROM purchase
    ORDER BY customer_id
    ON CONFLICT (customer_id) DO UPDATE
    SET last_purchase = greatest(c.last_purchase, excluded.last_purchase),
        frequency     = c.frequency + excluded.frequency,
        monetary      = c.monetary + excluded.monetary,
        updated_at    = now()
    RETURNING c.customer_id, c.ctid AS row_id, c.last_purchase::date, c.frequency, c.monetary
)
INSERT INTO due_customer
SELECT customer_id, row_id, written.last_purchase, nullif(written.frequency, 0),
       CASE WHEN written.frequency > 0 THEN written.monetary END,
       old.last_purchase, old.frequency, old.monetary, old.r, old.f, old.m, old.segment
FROM written
LEFT JOIN old USING (customer_id)

-- name: quarantine
-- A replayed record is already there.
INSERT INTO mart.rejected_invoice (
    topic_id, topic, "partition", "offset", kafka_timestamp, reason, detail, raw, outcome, settled_at
)
VALUES %s
ON CONFLICT (topic_id, "partition", "offset") DO NOTHING

-- name: advance_next_offsets
-- In the batch's transaction: what is applied and how far it was read cannot diverge.
INSERT INTO mart.next_offset (topic_id, topic, "partition", next_offset, writer_epoch)
SELECT %(topic_id)s::uuid, %(topic)s, "partition", next_offset, %(epoch)s
FROM unnest(%(partitions)s::integer[], %(next_offsets)s::bigint[]) moved ("partition", next_offset)
ON CONFLICT (topic_id, "partition") DO UPDATE
SET next_offset = excluded.next_offset, writer_epoch = excluded.writer_epoch, updated_at = now()

-- name: record_batch
-- It began when its transaction did. The sums are those of new invoices only; returns how many of them are ahead of the
-- clock.
INSERT INTO mart.batch (
    topic, writer_epoch, started_at, records, invoices, duplicates, rejected,
    oldest_kafka_timestamp, newest_kafka_timestamp, purchased, returned
)
SELECT %(topic)s, %(epoch)s, now(), %(records)s, %(invoices)s, %(duplicates)s, %(rejected)s,
       %(oldest)s, %(newest)s, coalesce(sum(purchased), 0), coalesce(sum(returned), 0)
FROM fresh_invoice
RETURNING id, (SELECT count(*) FROM fresh_invoice JOIN mart.shop ON invoice_date > clock_limit)

-- name: count_segments
SELECT customer_segment, customers FROM mart.segment_count

-- name: apply_shop_rules
-- The one row from which the views take the shop's settings.
INSERT INTO mart.shop (returns_policy, recency_clock, time_zone)
VALUES (%(returns_policy)s, %(recency_clock)s, %(time_zone)s)
ON CONFLICT (only_row) DO UPDATE
SET recency_clock = excluded.recency_clock, time_zone = excluded.time_zone, returns_policy = excluded.returns_policy

-- name: recounted_customers
-- One row per customer, from the invoices of a table and the sums of pruned ones: what mart.customer must be, except
-- for the scores. A customer known only from returns has frequency 0, and a row only if returns count (`net`), as apply
-- writes it, or if the row is already there from when they did.
SELECT customer_id,
       max(last_purchase) AS last_purchase,
       sum(frequency)::bigint AS frequency,
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
FROM (
    SELECT customer_id, CASE WHEN counting_lines > 0 THEN invoice_date END AS last_purchase,
           (counting_lines > 0)::int AS frequency, purchased, returned
    FROM {invoices}
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    UNION ALL
    SELECT customer_id, last_purchase, frequency, purchased, returned FROM mart.customer_carried
) known
GROUP BY customer_id
HAVING sum(frequency) > 0
    OR %(returns_policy)s = 'net'
    OR customer_id IN (SELECT customer_id FROM mart.customer)

-- name: rebuild_customers
-- Rebuilds every customer by apply/recounted_customers from mart.invoice, under another returns policy. A customer
-- known only from returns stays as a row with frequency 0, which no view shows.
INSERT INTO mart.customer AS c (customer_id, last_purchase, frequency, monetary)
{customers}
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE
SET last_purchase = excluded.last_purchase,
    frequency     = excluded.frequency,
    monetary      = excluded.monetary,
    updated_at    = now()

-- name: forget_next_offsets
DELETE FROM mart.next_offset WHERE topic = %(topic)s
