-- title: Customers by recency and frequency
-- chart: matrix
-- description: Customers by recency and frequency score, 5 being the best: one cell per pair of scores.
-- refresh: 5 s
-- columns: recency_score smallint, frequency_score smallint, customers bigint
SELECT r AS recency_score, f AS frequency_score, customers
FROM mart.score_count
ORDER BY r DESC, f
