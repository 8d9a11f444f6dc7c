-- Export: everything known about one customer, one query per file, from the mart and the lake.

-- name: customer
SELECT c.customer_id, c.last_purchase, c.frequency, c.monetary, c.r, c.f, c.m, c.segment, c.created_at, c.updated_at
FROM mart.customer c
WHERE c.customer_id = %(customer)s

-- name: invoices
SELECT invoice, customer_id, {apply/invoice_content}, encode(content_sha256, 'hex') AS content_sha256, kafka_partition,
       kafka_offset, kafka_timestamp, applied_at
FROM mart.invoice
WHERE customer_id = %(customer)s
ORDER BY invoice_date, invoice

-- name: carried
SELECT frequency, purchased, returned, last_purchase FROM mart.customer_carried WHERE customer_id = %(customer)s

-- name: moves
SELECT changed_at, event_time, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice
FROM mart.segment_change
WHERE customer_id = %(customer)s
ORDER BY id

-- name: quarantined
SELECT topic, "partition", "offset", kafka_timestamp, reason, detail, raw, rejected_at, outcome, settled_at
FROM mart.rejected_invoice
WHERE raw IS NOT NULL
ORDER BY topic, topic_id, "partition", "offset"

-- name: landed
-- The lake's rows of a customer, one for each copy of an invoice, for delta-rs's engine: the id is in the text, because
-- that engine takes no parameters.
SELECT * FROM lake WHERE customer_id = '{customer}' ORDER BY invoice_date, kafka_timestamp, partition, "offset"
