-- title: Customers by recency and frequency
-- chart: matrix
-- description: One cell a pair of scores, 5 the best: the customers who bought that recently and that often.
-- refresh: 5 s
-- columns: recency_score smallint, frequency_score smallint, customers bigint
SELECT r AS recency_score, f AS frequency_score, customers
FROM mart.score_count
ORDER BY r DESC, f
