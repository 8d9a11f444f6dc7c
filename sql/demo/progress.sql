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
