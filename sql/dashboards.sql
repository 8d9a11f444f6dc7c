-- What the live page asks in addition to its cards (dashboards/cards/): whether a batch was applied, one customer, and
-- what to recommend (rules/recommend).

-- name: listen
LISTEN mart_batch

-- name: status
SELECT invoices, last_batch_at, since_batch_ms, newest_invoice_date, time_zone,
       writer_topic, writer_epoch, writer_application, writer_started_at, writer_connected
FROM mart.stream_status

-- name: customer
SELECT customer_id, customer_segment, recency, frequency, monetary, last_purchase, r, f, m, created_at
FROM mart.customer_segmentation
WHERE customer_id = %(customer_id)s

-- name: customer_scores
-- Rank 1 is the best, as in `explain` (explain/scores).
SELECT metric, score, value, customers - rank + 1 AS rank, customers, places_to_next, next_value, more_to_next
FROM mart.explain_scores(%(customer_id)s)

-- name: customer_invoices
SELECT invoice_date, invoice, counting_lines, purchased, returned
FROM mart.explain_purchases(%(customer_id)s, 25)

-- name: customer_moves
SELECT changed_at, event_time, from_segment, to_segment, cause, invoice, from_r, from_f, from_m, to_r, to_f, to_m
FROM mart.explain_moves(%(customer_id)s, 25)

-- name: products
-- Products for which the current rules recommend something, those in most baskets first.
SELECT product.stock_code, product.name
FROM mart.market_basket_analysis, unnest(antecedent_codes, antecedent_names) AS product (stock_code, name)
GROUP BY product.stock_code, product.name
ORDER BY max(antecedent_count) DESC, product.stock_code
