-- Verify: the mart against the lake. In order: pin one snapshot of the mart and copy its tables as CSV; load these into
-- DuckDB; recompute there what the lake's copies add up to; the differences. Repair takes the lake's side from here.
-- `copy_*`, `select_next_offsets` and `select_shop` go to PostgreSQL, the others to DuckDB.

-- name: select_next_offsets
SELECT topic, topic_id::text, "partition", next_offset FROM mart.next_offset ORDER BY topic, "partition"

-- name: select_shop
SELECT returns_policy, clock_limit FROM mart.shop

-- name: copy_refused
-- The records that the lake may hold but the mart has refused: because it already had the invoice, or by PostgreSQL
-- itself.
COPY (
    SELECT topic, "partition", "offset", (extract(epoch FROM kafka_timestamp) * 1000000)::bigint AS kafka_us, reason
    FROM mart.rejected_invoice
    WHERE reason IN ('conflicting_duplicate', 'internal_error')
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_applied
-- The record from which each invoice was applied.
COPY (
    SELECT invoice, kafka_partition AS "partition", kafka_offset AS "offset",
           (extract(epoch FROM kafka_timestamp) * 1000000)::bigint AS kafka_us
    FROM mart.invoice
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_pruned
COPY (SELECT invoice FROM mart.pruned_invoice) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_carried
COPY (
    SELECT customer_id, frequency, purchased, returned, last_purchase FROM mart.customer_carried
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_pruned_total
COPY (
    SELECT invoices, purchased, returned, newest_invoice_date FROM mart.pruned_total
) TO STDOUT (FORMAT csv, HEADER)

-- name: load_pins
-- What the recomputation needs of the mart: how far each partition is applied and landed, which landed copies the mart
-- refused, which copy of each invoice it applied, whom it has erased, and the sums of the invoices that it pruned.
CREATE TABLE next_offset (topic VARCHAR, "partition" INTEGER, next_offset BIGINT, landed_offset BIGINT);
CREATE TABLE erased (customer_sha256 VARCHAR);
CREATE TABLE refused AS
SELECT * FROM read_csv(
    '{folder}/refused.csv', header = true, auto_detect = false, columns = {{
        'topic': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT', 'kafka_us': 'BIGINT', 'reason': 'VARCHAR'
    }}
);
CREATE TABLE applied AS
SELECT * FROM read_csv(
    '{folder}/applied.csv', header = true, auto_detect = false, quote = '"', escape = '"',
    columns = {{'invoice': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT', 'kafka_us': 'BIGINT'}}
);
CREATE TABLE pruned AS
SELECT * FROM read_csv(
    '{folder}/pruned.csv', header = true, auto_detect = false, quote = '"', escape = '"',
    columns = {{'invoice': 'VARCHAR'}}
);
CREATE TABLE carried AS
SELECT * FROM read_csv(
    '{folder}/carried.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'customer_id': 'VARCHAR', 'frequency': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'last_purchase': 'TIMESTAMP'
    }}
);
CREATE TABLE pruned_total AS
SELECT * FROM read_csv(
    '{folder}/pruned_total.csv', header = true, nullstr = '', auto_detect = false, columns = {{
        'invoices': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)', 'newest_invoice_date': 'TIMESTAMP'
    }}
);

-- name: copy_invoice
COPY (
    SELECT invoice, customer_id, {apply/invoice_content}, encode(content_sha256, 'hex') AS content_sha256
    FROM mart.invoice
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_customer
COPY (
    SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment
    FROM mart.customer
    WHERE frequency > 0 OR monetary <> 0
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_cut
COPY (
    SELECT 'quintile ' || quintile AS cut, customers, r_value, r_customer_id, f_value, f_customer_id, m_value, m_customer_id
    FROM mart.quintile_cut
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_score
COPY (
    SELECT concat('r', r, ' f', f, ' m', m) AS score, customers, monetary
    FROM mart.score_total
    WHERE customers <> 0 OR monetary <> 0
) TO STDOUT (FORMAT csv, HEADER)

-- name: copy_total
COPY (
    SELECT 'shop' AS total, invoices, purchased, returned, newest_invoice_date
    FROM mart.stream_total
    CROSS JOIN mart.shop
) TO STDOUT (FORMAT csv, HEADER)

-- name: load_mart
-- The copies of the mart's tables, typed as they are there, because auto-detection would guess from the values.
-- Additions to an invoice's content are text unless they are named here.
CREATE OR REPLACE TABLE mart_invoice AS
SELECT * REPLACE (
    invoice_date::TIMESTAMP AS invoice_date, line_count::INTEGER AS line_count,
    counting_lines::INTEGER AS counting_lines, purchased::DECIMAL(38, 2) AS purchased,
    returned::DECIMAL(38, 2) AS returned
) FROM read_csv(
    '{folder}/invoice.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"',
    columns = {invoice_columns}
);
CREATE OR REPLACE TABLE mart_customer AS
SELECT * FROM read_csv(
    '{folder}/customer.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'customer_id': 'VARCHAR', 'frequency': 'BIGINT', 'monetary': 'DECIMAL(38, 2)', 'last_purchase': 'TIMESTAMP',
        'r': 'SMALLINT', 'f': 'SMALLINT', 'm': 'SMALLINT', 'segment': 'VARCHAR'
    }}
);
CREATE OR REPLACE TABLE mart_cut AS
SELECT * FROM read_csv(
    '{folder}/cut.csv', header = true, auto_detect = false, quote = '"', escape = '"', columns = {{
        'cut': 'VARCHAR', 'customers': 'BIGINT', 'r_value': 'DATE', 'r_customer_id': 'VARCHAR', 'f_value': 'BIGINT',
        'f_customer_id': 'VARCHAR', 'm_value': 'DECIMAL(38, 2)', 'm_customer_id': 'VARCHAR'
    }}
);
CREATE OR REPLACE TABLE mart_score AS
SELECT * FROM read_csv(
    '{folder}/score.csv', header = true, auto_detect = false,
    columns = {{'score': 'VARCHAR', 'customers': 'BIGINT', 'monetary': 'DECIMAL(38, 2)'}}
);
CREATE OR REPLACE TABLE mart_total AS
SELECT * FROM read_csv(
    '{folder}/total.csv', header = true, nullstr = '', auto_detect = false, columns = {{
        'total': 'VARCHAR', 'invoices': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'newest_invoice_date': 'TIMESTAMP'
    }}
);

-- name: landed_copies
-- One row per copy of an invoice that the lake holds and the mart has read. `place` 1 counts: the copy that the mart
-- applied, or the earliest one of an invoice that it lost. Copies in the mart's quarantine are left out, and so are
-- those of invoices that it pruned. A customer whom the mart has erased is nobody here, and the digest that would
-- reveal copies with other content is gone too. Offsets from next_offset to landed_offset are landed but not yet
-- applied. If a topic was deleted and re-created there are two records at an offset; then the newer one is the one not
-- yet applied.
CREATE TABLE landed_copy AS
WITH unapplied AS (
    SELECT lake.topic, lake."partition", lake."offset", max(lake.kafka_timestamp) AS kafka_timestamp
    FROM lake
    JOIN next_offset p ON p.topic = lake.topic AND p."partition" = lake."partition"
    WHERE lake."offset" >= p.next_offset AND lake."offset" < p.landed_offset
    GROUP BY ALL
), due AS (
    SELECT lake.*,
           EXISTS (FROM erased) AND sha256($salt || customer_id) IN (SELECT customer_sha256 FROM erased) AS is_erased
    FROM lake
    WHERE EXISTS (
              SELECT 1 FROM next_offset p WHERE p.topic = lake.topic AND p."partition" = lake."partition"
          )
      AND NOT EXISTS (
          SELECT 1 FROM unapplied u
          WHERE u.topic = lake.topic AND u."partition" = lake."partition" AND u."offset" = lake."offset"
            AND u.kafka_timestamp = lake.kafka_timestamp
      )
      AND NOT EXISTS (
          SELECT 1 FROM refused r
          WHERE r.topic = lake.topic AND r."partition" = lake."partition" AND r."offset" = lake."offset"
            AND r.kafka_us = epoch_us(lake.kafka_timestamp)
      )
      AND NOT EXISTS (SELECT 1 FROM pruned WHERE pruned.invoice = lake.invoice)
)
SELECT due.* EXCLUDE (is_erased, business_date) REPLACE (
           CASE WHEN NOT coalesce(is_erased, false) THEN customer_id END AS customer_id,
           CASE WHEN NOT coalesce(is_erased, false) THEN content_sha256 ELSE repeat('0', 64) END AS content_sha256
       ),
       row_number() OVER (
           PARTITION BY due.invoice
           ORDER BY applied.invoice IS NULL, kafka_timestamp, due."partition", due."offset"
       ) AS place
FROM due
LEFT JOIN applied ON applied.invoice = due.invoice AND applied."partition" = due."partition"
    AND applied."offset" = due."offset" AND applied.kafka_us = epoch_us(due.kafka_timestamp)

-- name: landed_invoices
-- One row per invoice, with what counts of it: the stream's business rules once more, for another engine, so that a bug
-- in one of them shows.
CREATE TABLE landed_invoice AS
WITH line AS (
    SELECT invoice, unnest(lines, recursive := true) FROM landed_copy WHERE place = 1
), summed AS (
    SELECT invoice,
           count(*) FILTER (WHERE is_counting) AS counting_lines,
           coalesce(sum(amount) FILTER (WHERE is_counting), 0) AS purchased,
           coalesce(sum(amount) FILTER (WHERE is_product AND quantity < 0), 0) AS returned
    FROM (
        SELECT *, is_product AND quantity > 0 AND NOT starts_with(invoice, 'C') AS is_counting
        -- As wide as possible: DuckDB computes the product of an integer and a decimal(18,2) in 18 digits.
        FROM (SELECT *, quantity * price::DECIMAL(38, 2) AS amount, {duckdb/product_line} AS is_product FROM line)
    )
    GROUP BY invoice
)
SELECT landed_copy.* EXCLUDE (lines, topic, place), len(lines)::INTEGER AS line_count,
       counting_lines::INTEGER AS counting_lines, purchased::DECIMAL(38, 2) AS purchased,
       returned::DECIMAL(38, 2) AS returned
FROM landed_copy
JOIN summed USING (invoice)
WHERE place = 1

-- name: take_unlanded
-- Invoices from before the dates that the lake keeps: there is nothing left to compare them with, so they are taken as
-- the mart has them.
INSERT INTO landed_invoice BY NAME
SELECT m.* FROM mart_invoice m
WHERE m.invoice_date < $lake_kept_since AND NOT EXISTS (SELECT 1 FROM landed_invoice l WHERE l.invoice = m.invoice)

-- name: recomputed_customers
-- One row per customer, from the lake's invoices and the sums of the customer's pruned ones. A customer known only from
-- returns has a row if these reduce what will be bought (`net`), without scores.
CREATE TABLE recomputed_customer AS
WITH known AS (
    SELECT customer_id, (counting_lines > 0)::INTEGER AS frequency, purchased, returned,
           CASE WHEN counting_lines > 0 THEN invoice_date END AS last_purchase
    FROM landed_invoice
    WHERE customer_id IS NOT NULL
    UNION ALL
    SELECT customer_id, frequency, purchased, returned, last_purchase FROM carried
), customer AS (
    SELECT customer_id,
           sum(frequency) AS frequency,
           sum(purchased) + CASE WHEN $returns_policy = 'net' THEN sum(returned) ELSE 0 END AS monetary,
           max(last_purchase) AS last_purchase
    FROM known
    GROUP BY customer_id
), scored AS (
    SELECT customer_id,
           ntile(5) OVER (ORDER BY last_purchase::DATE, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY monetary, customer_id) AS m
    FROM customer
    WHERE frequency > 0
)
SELECT customer_id, frequency, monetary::DECIMAL(38, 2) AS monetary, last_purchase, r, f, m, segment
FROM customer
LEFT JOIN scored USING (customer_id)
LEFT JOIN segment_score USING (r, f, m)
WHERE frequency > 0 OR monetary <> 0

-- name: recomputed_totals
-- From the recomputed customers: the last key of each quintile, and the customers of each combination of scores.
CREATE TABLE recomputed_cut AS
SELECT 'quintile ' || quintile AS cut, customers,
       r.value AS r_value, r.id AS r_customer_id,
       f.value AS f_value, f.id AS f_customer_id,
       m.value AS m_value, m.id AS m_customer_id
FROM (
    SELECT quintile,
           (SELECT count(*) FROM recomputed_customer WHERE frequency > 0) AS customers,
           max({'value': last_purchase::DATE, 'id': customer_id}) FILTER (WHERE r <= quintile) AS r,
           max({'value': frequency, 'id': customer_id}) FILTER (WHERE f <= quintile) AS f,
           max({'value': monetary, 'id': customer_id}) FILTER (WHERE m <= quintile) AS m
    FROM recomputed_customer
    CROSS JOIN generate_series(1, 4) quintiles (quintile)
    WHERE frequency > 0
    GROUP BY quintile
);

CREATE TABLE recomputed_score AS
SELECT concat('r', r, ' f', f, ' m', m) AS score, count(*) AS customers, sum(monetary)::DECIMAL(38, 2) AS monetary
FROM recomputed_customer
WHERE frequency > 0
GROUP BY r, f, m;

-- name: recomputed_shop
-- From the recomputed invoices: the shop's sums, including pruned invoices, and the newest date up to the clock's limit
-- at the last batch.
CREATE TABLE recomputed_total AS
SELECT 'shop' AS total, sum(invoices)::BIGINT AS invoices, sum(purchased)::DECIMAL(38, 2) AS purchased,
       sum(returned)::DECIMAL(38, 2) AS returned,
       max(newest_invoice_date) FILTER (WHERE newest_invoice_date <= $clock_limit) AS newest_invoice_date
FROM (
    SELECT 1 AS invoices, purchased, returned, invoice_date AS newest_invoice_date FROM landed_invoice
    UNION ALL
    SELECT invoices, purchased, returned, newest_invoice_date FROM pruned_total
)

-- name: differences
-- One row per key and column in which the mart and the lake differ, as text. A key that one of them lacks is one row.
CREATE OR REPLACE TABLE {table}_difference AS
SELECT coalesce(m.{key}, l.{key}) AS key, d.difference, d.mart, d.lake
FROM mart_{table} m
FULL JOIN {lake} l USING ({key})
CROSS JOIN LATERAL (
    SELECT unnest(
        CASE WHEN m.{key} IS NULL THEN [{{'difference': 'missing in the mart', 'mart': NULL, 'lake': l.{key}}}]
             WHEN l.{key} IS NULL THEN [{{'difference': 'not in the lake', 'mart': m.{key}, 'lake': NULL}}]
             ELSE [{columns}] END,
        recursive := true
    )
) d
WHERE d.mart IS DISTINCT FROM d.lake

-- name: conflict_differences
-- One row per landed copy with other content than the one that counts; the mart should hold it in quarantine.
CREATE OR REPLACE TABLE conflict_difference AS
SELECT concat(c.topic, ' ', c."partition", ':', c."offset") AS key, 'not in quarantine' AS difference,
       NULL::VARCHAR AS mart, c.invoice AS lake, c.topic, c."partition", c."offset", c.kafka_timestamp, c.invoice,
       first."partition" AS first_partition, first."offset" AS first_offset
FROM landed_copy c
JOIN landed_invoice first USING (invoice)
WHERE c.place > 1 AND c.content_sha256 <> first.content_sha256

-- name: first_differences
-- The first differences of a table; for a customer with the differing invoices, which explain it.
WITH of_customer AS (
    SELECT coalesce(m.customer_id, l.customer_id) AS customer_id, list(DISTINCT d.key ORDER BY d.key) AS invoices
    FROM invoice_difference d
    LEFT JOIN mart_invoice m ON m.invoice = d.key
    LEFT JOIN landed_invoice l ON l.invoice = d.key
    WHERE '{table}' = 'customer'
    GROUP BY 1
)
SELECT d.key, d.difference, d.mart, d.lake, o.invoices[:5]
FROM {table}_difference d
LEFT JOIN of_customer o ON o.customer_id = d.key
ORDER BY o.invoices IS NULL, d.key, d.difference
LIMIT $shown

-- name: export_invoices
-- What the mart must hold according to the lake (except what is older than the lake), in the columns of
-- apply/copy_staged.
COPY (
    SELECT invoice, customer_id, {apply/invoice_content}, '\x' || content_sha256, "partition", "offset", kafka_timestamp
    FROM landed_invoice
    WHERE "offset" IS NOT NULL
) TO '{folder}/landed.csv' (FORMAT csv, HEADER false, QUOTE '"', ESCAPE '"', NULLSTR '')

-- name: select_conflicts
SELECT "partition", "offset", kafka_timestamp, invoice, first_partition, first_offset
FROM conflict_difference
WHERE topic = $topic
ORDER BY "partition", "offset"
