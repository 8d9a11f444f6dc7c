-- title: Revenue by recency and frequency
-- chart: matrix
-- description: Total spend by recency and frequency score, 5 being the best: one cell per pair of scores.
-- refresh: 5 s
-- columns: recency_score smallint, frequency_score smallint, revenue numeric
-- unit: revenue = currency
SELECT r AS recency_score, f AS frequency_score, monetary AS revenue
FROM mart.score_count
ORDER BY r DESC, f
