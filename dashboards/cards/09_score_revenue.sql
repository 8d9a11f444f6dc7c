-- title: Revenue by recency and frequency
-- chart: matrix
-- description: One cell a pair of scores, 5 the best: what the customers who bought that recently and that often have spent in all.
-- refresh: 5 s
-- columns: recency_score smallint, frequency_score smallint, revenue numeric
-- unit: revenue = currency
SELECT r AS recency_score, f AS frequency_score, monetary AS revenue
FROM mart.score_count
ORDER BY r DESC, f
