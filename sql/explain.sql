-- Explain: how one customer got their scores; one query per section of the answer, in its order.

-- name: customer
SELECT customer_id, recency, frequency, monetary, last_purchase, r, f, m, customer_segment, as_of_date
FROM mart.customer_segmentation
CROSS JOIN mart.as_of
WHERE customer_id = %(customer)s

-- name: scores
-- Rank 1 is the best here and on the page (dashboards/customer_scores); the mart's function counts from the lowest.
SELECT metric, score, value, customers - rank + 1 AS rank, customers,
       customers - quintile_ends + 1 AS quintile_begins, customers - quintile_begins + 1 AS quintile_ends,
       value_below, value_above, places_to_next, next_value, more_to_next
FROM mart.explain_scores(%(customer)s)

-- name: purchases
SELECT invoice, invoice_date, line_count, counting_lines, purchased, returned
FROM mart.explain_purchases(%(customer)s, %(newest)s)

-- name: moves
SELECT changed_at, event_time, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice
FROM mart.explain_moves(%(customer)s, %(newest)s)

-- name: carried
SELECT frequency, purchased, returned, last_purchase FROM mart.explain_carried(%(customer)s)
