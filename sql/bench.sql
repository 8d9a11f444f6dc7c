-- What the benchmarks run: latencies of a stream, sizes during a soak; scoring by cuts against a full ntile; the peers'
-- tables and statements; what becomes visible for each contender, and when.

-- name: first_record
SELECT min(kafka_timestamp) FROM mart.invoice WHERE kafka_timestamp >= %(start)s - interval '1 second'

-- name: latency
-- One row: invoices produced between two moments (seconds after `start`), and p50, p90, p99 and maximum of their
-- latency from the Kafka record's timestamp to the commit in PostgreSQL (track_commit_timestamp), milliseconds.
SELECT count(*) AS invoices,
       percentile_disc(ARRAY[0.5, 0.9, 0.99, 1.0]) WITHIN GROUP (
           ORDER BY 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)
       ) AS percentiles
FROM mart.invoice
WHERE kafka_timestamp >= %(start)s + make_interval(secs => %(after)s)
  AND kafka_timestamp < %(start)s + make_interval(secs => %(until)s)

-- name: batches
SELECT count(*), coalesce(avg(records), 0)
FROM mart.batch
WHERE applied_at > %(start)s + make_interval(secs => %(after)s) AND records > 0

-- name: latency_by_minute
-- One row per minute since `start`, of the invoices that Kafka received before `until` seconds: minute (0 is the
-- first), invoices, p50 and p99 of their latency from the Kafka record's timestamp to the commit in PostgreSQL
-- (track_commit_timestamp), in milliseconds.
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

-- name: invoice_latencies
-- Invoices that Kafka took in the time from %(start)s on: their way from the record's timestamp to the commit that made
-- them visible (track_commit_timestamp), in milliseconds.
SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp)::float8 AS ms
FROM mart.invoice
WHERE kafka_timestamp >= %(start)s
  AND kafka_timestamp < %(start)s + make_interval(secs => %(seconds)s)

-- name: latest_records
-- Rows whose newest record Kafka took from %(start)s on: the customer, that record's timestamp, and its way from there to
-- the commit that made it visible (track_commit_timestamp), in milliseconds.
SELECT customer_id, newest_record,
       1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - newest_record)::float8 AS ms
FROM peer.customer
WHERE newest_record >= %(start)s

-- name: database_size
SELECT pg_database_size(current_database())

-- name: table_sizes
-- One row per table of the mart, and one for PostgreSQL's catalogs: bytes with indexes and TOAST, live and dead rows
-- according to the statistics.
SELECT relname::text AS "table", pg_total_relation_size(relid) AS bytes, n_live_tup AS live, n_dead_tup AS dead
FROM pg_stat_user_tables
WHERE schemaname = 'mart'
UNION ALL
SELECT 'pg_catalog', sum(pg_total_relation_size(relid)), sum(n_live_tup), sum(n_dead_tup)
FROM pg_stat_sys_tables
WHERE schemaname = 'pg_catalog'
ORDER BY "table"

-- name: fill_customers
-- A shop of that many customers: most bought once or twice, few very often; last purchases over a year, more of them
-- recent.
INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary)
SELECT customer_id,
       timestamp '2025-06-30' - make_interval(days => (365 * recency * recency)::int, mins => (600 * recency)::int),
       frequency,
       round((frequency * (5 + 200 * spent * spent * spent))::numeric, 2)
FROM (
    SELECT (10000000 + n)::text AS customer_id, random() AS recency, random() AS spent,
           least(1 + floor(0.6 / (random() + 0.0005)), 300)::bigint AS frequency
    FROM generate_series(1, %(customers)s) n
) made_up

-- name: stage_invoices
-- One invoice each of that many customers: one in twenty is new, the others are drawn with a bias to frequent ones.
INSERT INTO fresh_invoice (invoice, invoice_date, customer_id, counting_lines, purchased, returned)
SELECT %(batch)s || '-' || customer_id, timestamp '2025-07-01' + make_interval(mins => %(batch)s * 10), customer_id, 3,
       round((5 + 200 * random() ^ 3)::numeric, 2), 0
FROM (
    (
        SELECT customer_id
        FROM mart.customer
        WHERE frequency > 0
        ORDER BY random() ^ (1.0 / sqrt(frequency)) DESC
        LIMIT %(changed)s - %(changed)s / 20
    )
    UNION ALL
    SELECT 'new-' || %(batch)s || '-' || n FROM generate_series(1, %(changed)s / 20) n
) buyer

-- name: full_ntile
-- The usual way, for comparison: a full ntile(5) of each metric per batch; writes the rows that changed, and who moved.
WITH place AS (
    SELECT customer_id, r AS from_r, f AS from_f, m AS from_m, segment AS from_segment,
           ntile(5) OVER (ORDER BY last_purchase::date, customer_id) AS to_r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS to_f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS to_m
    FROM mart.customer
    WHERE frequency > 0
), changed AS (
    SELECT place.*, s.segment AS to_segment
    FROM place
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
    WHERE (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM changed
    WHERE c.customer_id = changed.customer_id
), own_purchase AS (
    SELECT DISTINCT ON (customer_id) customer_id, invoice
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL AND counting_lines > 0
    ORDER BY customer_id, invoice_date DESC, invoice DESC
)
INSERT INTO mart.segment_change (
    customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice, event_time
)
SELECT customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m,
       CASE WHEN own_purchase.invoice IS NULL THEN 'overtaken' ELSE 'own purchase' END,
       own_purchase.invoice,
       (SELECT newest_invoice_date FROM mart.shop)
FROM changed
LEFT JOIN own_purchase USING (customer_id)
WHERE from_segment IS DISTINCT FROM to_segment

-- name: copy_metrics
COPY (
    SELECT customer_id, last_purchase::date AS last_purchase, frequency, (monetary * 100)::bigint AS cents, r, f, m
    FROM mart.customer
    WHERE frequency > 0
) TO STDOUT (FORMAT csv, HEADER)

-- name: duckdb_ntile
-- The scores that changed, of customers read into `customer`.
SELECT customer_id, to_r AS r, to_f AS f, to_m AS m
FROM (
    SELECT *,
           ntile(5) OVER (ORDER BY last_purchase, customer_id) AS to_r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS to_f,
           ntile(5) OVER (ORDER BY cents, customer_id) AS to_m
    FROM customer
)
WHERE (r, f, m) IS DISTINCT FROM (to_r, to_f, to_m)

-- name: create_new_score
CREATE TEMPORARY TABLE IF NOT EXISTS new_score (customer_id text COLLATE "C", r smallint, f smallint, m smallint)
ON COMMIT DELETE ROWS

-- name: write_scores
-- Writes what DuckDB found back to the mart.
UPDATE mart.customer c
SET r = n.r, f = n.f, m = n.m, segment = s.segment, updated_at = now()
FROM new_score n
JOIN mart.segment_score s USING (r, f, m)
WHERE c.customer_id = n.customer_id

-- name: digest_scores
SELECT sum(hashtextextended(concat_ws(' ', customer_id, r, f, m, segment), 0)::numeric) FROM mart.customer

-- name: peer_tables
-- What the peers keep. Their customers hold what each peer can keep current by itself; a view computes scores and
-- segment whenever somebody reads them, which costs the peer nothing when it writes.
CREATE SCHEMA peer;

CREATE TABLE peer.invoice (  -- the idempotency key, of those peers that keep one
    invoice      text COLLATE "C" PRIMARY KEY,
    invoice_date timestamp NOT NULL,
    customer_id  text COLLATE "C",
    cents        bigint NOT NULL
);

CREATE TABLE peer.customer (
    customer_id   text COLLATE "C" PRIMARY KEY,
    frequency     bigint NOT NULL,
    cents         bigint NOT NULL,
    last_purchase timestamp NOT NULL,
    newest_record timestamptz NOT NULL  -- Kafka's timestamp of the newest record in this row
);

CREATE TABLE peer.segment_score (
    r       smallint,
    f       smallint,
    m       smallint,
    segment text NOT NULL,
    PRIMARY KEY (r, f, m)
);

CREATE VIEW peer.customer_segmentation AS
SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment
FROM (
    SELECT customer_id, frequency, cents::numeric / 100 AS monetary, last_purchase,
           ntile(5) OVER (ORDER BY last_purchase::date, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY cents, customer_id) AS m
    FROM peer.customer
) scored
JOIN peer.segment_score USING (r, f, m);

-- name: peer_insert_invoices
INSERT INTO peer.invoice (invoice, invoice_date, customer_id, cents)
VALUES %s
ON CONFLICT (invoice) DO NOTHING
RETURNING invoice

-- name: add_to_customer
-- Added to what the peer knows of the customer.
ON CONFLICT (customer_id) DO UPDATE
SET frequency     = c.frequency + excluded.frequency,
    cents         = c.cents + excluded.cents,
    last_purchase = greatest(c.last_purchase, excluded.last_purchase),
    newest_record = greatest(c.newest_record, excluded.newest_record)

-- name: peer_upsert_customers
INSERT INTO peer.customer AS c (customer_id, frequency, cents, last_purchase, newest_record)
VALUES %s
{bench/add_to_customer}

-- name: peer_insert_invoice
INSERT INTO peer.invoice (invoice, invoice_date, customer_id, cents)
VALUES (%s, %s, %s, %s)
ON CONFLICT (invoice) DO NOTHING

-- name: peer_upsert_customer
INSERT INTO peer.customer AS c (customer_id, frequency, cents, last_purchase, newest_record)
VALUES (%s, 1, %s, %s, %s)
{bench/add_to_customer}

-- name: peer_set_customers
INSERT INTO peer.customer AS c (customer_id, frequency, cents, last_purchase, newest_record)
VALUES %s
ON CONFLICT (customer_id) DO UPDATE
SET frequency     = excluded.frequency,
    cents         = excluded.cents,
    last_purchase = excluded.last_purchase,
    newest_record = excluded.newest_record

-- name: visible_mart
SELECT coalesce(sum(frequency), 0) FROM mart.customer

-- name: visible_peer
SELECT coalesce(sum(frequency), 0) FROM peer.customer

-- name: visible_overwritten
SELECT coalesce(sum(frequency), 0) FROM peer.overwritten

-- name: customers_peer
SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment FROM peer.customer_segmentation

-- name: customers_overwritten
SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment FROM peer.overwritten

-- name: rules_mart
SELECT antecedent_codes AS antecedent, consequent_codes AS consequent, support, confidence, lift
FROM mart.market_basket_analysis

-- name: rules_overwritten
SELECT antecedent, consequent, support, confidence, lift FROM peer.overwritten_rule
