-- What the demo queries while it runs, and shows at its end.

-- name: next_offsets
SELECT "partition", next_offset FROM mart.next_offset WHERE topic = %(topic)s

-- name: progress
-- One row: invoices applied, records rejected, duplicates, as-of date, and the latency of the last seconds' invoices
-- from the Kafka record's timestamp to the commit in PostgreSQL (track_commit_timestamp), in milliseconds.
SELECT total.invoices,
       total.rejected,
       total.duplicates,
       (SELECT newest_invoice_date FROM mart.as_of) AS newest_invoice_date,
       latency.p50,
       latency.p99
FROM (
    SELECT coalesce(sum(invoices), 0) AS invoices,
           coalesce(sum(rejected), 0) AS rejected,
           coalesce(sum(duplicates), 0) AS duplicates
    FROM mart.batch
) total
CROSS JOIN (
    SELECT percentile_disc(0.50) WITHIN GROUP (ORDER BY ms) AS p50,
           percentile_disc(0.99) WITHIN GROUP (ORDER BY ms) AS p99
    FROM (
        SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - kafka_timestamp) AS ms
        FROM mart.invoice
        WHERE applied_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    ) recent
) latency

-- name: segments
SELECT customer_segment, customers, monetary FROM mart.segment_count

-- name: leading_product
-- The antecedent of the rule with the highest lift among rules with one antecedent, otherwise among all rules.
SELECT antecedent_codes[1], antecedent_names[1]
FROM mart.market_basket_analysis
ORDER BY cardinality(antecedent_codes) > 1, id
LIMIT 1

-- name: customers
SELECT customer_id, frequency, monetary, last_purchase, r, f, m, customer_segment AS segment
FROM mart.customer_segmentation
