-- title: Newest moves
-- chart: table
-- description: Customers who entered or changed a segment, newest first: through a purchase of their own, or because others overtook them.
-- refresh: 1 s
-- columns: changed_at timestamptz, customer_id text, from_segment text, to_segment text, cause text, invoice text
SELECT changed_at, customer_id, from_segment, to_segment, cause, invoice
FROM mart.segment_move
ORDER BY id DESC
LIMIT 10
