-- What a torture run reads from the mart, and once from the lake, to compare with what was produced.

-- name: applied
SELECT coalesce(sum(next_offset), 0)::bigint FROM mart.next_offset

-- name: invoice_count
SELECT count(*)::int FROM mart.invoice

-- name: terminate_backends
SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
WHERE datname = %(database)s AND pid <> pg_backend_pid()

-- name: invoices
SELECT invoice, customer_id, invoice_date, line_count, counting_lines, purchased * 100, returned * 100
FROM mart.invoice

-- name: customers
SELECT customer_id, last_purchase, frequency, monetary * 100, r::int, f::int, m::int, customer_segment
FROM mart.customer_segmentation

-- name: rejected
SELECT "partition", "offset", reason FROM mart.rejected_invoice r
WHERE topic_id = (SELECT topic_id FROM mart.next_offset WHERE topic = r.topic LIMIT 1)

-- name: next_offsets
SELECT "partition", next_offset FROM mart.next_offset

-- name: batches
SELECT coalesce(sum(records), 0)::int, coalesce(sum(invoices), 0)::int, coalesce(sum(duplicates), 0)::int,
       coalesce(sum(rejected), 0)::int
FROM mart.batch

-- name: segments
SELECT customer_segment, customers::int FROM mart.segment_count WHERE customers > 0

-- name: landed
-- One row per record; copies of one record that differ give two rows.
SELECT DISTINCT "partition", "offset", invoice,
       list_sum(list_transform(lines, line -> (line.quantity * line.price::DECIMAL(38, 2) * 100)::HUGEINT)) AS cents
FROM lake
